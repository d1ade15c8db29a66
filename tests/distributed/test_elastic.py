"""Nodes that come and go while a study runs: they get work, cost no more than their shards, and change no byte."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.buckets import BUCKET
from tests.distributed.test_submit import environment
from tests.hosts import BIN, GCS, Machines, cluster_with_bucket, join
from tests.small import small_study
from tis_ray.storage import followed, listed, place

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]
SHARDS = 90


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """A head and one worker; two more machines stand ready. A bucket for all."""
    # A machine without power is missed sooner than after Ray's half minute.
    often = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "5"}
    names = ["head", "one", "two", "three"]
    with cluster_with_bucket(names, ["head", "one"], environment(**often)) as made:
        yield made


def _study(machines: Machines, name: str) -> tuple[str, dict[str, Any]]:
    """Write a study of many shards that each take a second; return its file and its content."""
    study = small_study(machines.own, budget=12)
    study["data"]["pool"] = {"kind": "builtin", "rows": 10 * SHARDS}
    study |= {
        "name": name,
        "representation": "tests.distributed.slow_letters:SlowLetters",
        "runs": f"s3://{BUCKET}/runs",
        "artifacts": f"s3://{BUCKET}/{name}",
        "batch": {"shard_rows": 10},
        "compute": {"address": f"{machines.hosts['head'].address}:{GCS}"},
    }
    file = place(f"s3://{BUCKET}/{name}.yaml")
    file.write_text(yaml.safe_dump(study))
    return str(file), study


def _done(study: dict[str, Any]) -> int:
    store = listed(place(study["artifacts"]), "store-*")
    return len(listed(store[0] / "pool", "*.safetensors")) if store else 0


def _ordering(study: dict[str, Any]) -> bytes:
    names = place(study["runs"]) / study["name"] / "orderings"
    (pointer,) = listed(names, "*.pointer")
    folder = followed(pointer.with_name(pointer.name.removesuffix(".pointer")))
    return (folder / "ordering.parquet").read_bytes()


def _events(study: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    events = (place(study["runs"]) / study["name"] / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, events) if event["event"] == kind]


def _nodes(study: dict[str, Any]) -> dict[str, int]:
    """Return how many shards of features each node has made."""
    made = _events(study, "shards")
    return next(event["nodes"] for event in made if event["label"].startswith("features"))


def test_nodes_that_come_get_work_and_nodes_that_go_cost_their_shards(machines: Machines) -> None:
    file, study = _study(machines, "moving")
    command = (str(BIN / "python"), "-m", "tis_ray.cli", "select", "-c", file)
    run = machines.hosts["head"].start(*command, cwd=machines.own, env=machines.env)
    _wait(lambda: _done(study) >= 3, run, 300)
    join(machines.hosts, "two", machines.own, machines.env)
    joined = time.monotonic()
    before = _done(study)
    join(machines.hosts, "three", machines.own, machines.env)
    machines.hosts["one"].kill()  # in mid-stage
    assert run.wait(900) == 0, run.stdout and run.stdout.read()
    said = run.stdout.read() if run.stdout else ""
    assert "Traceback" not in said
    made = _nodes(study)
    assert made.get("two", 0) > 0, (made, before, time.monotonic() - joined)
    assert (
        sum(made.values()) <= SHARDS + 1 + 4
    )  # queries' shard; two shards an actor are on their way
    changes = {(event["node"], event["change"]) for event in _events(study, "node")}
    assert changes == {("two", "joined"), ("three", "joined"), ("one", "left")}
    assert "node two joined; 3 node(s) now" in said
    logs = listed(place(study["runs"]) / study["name"] / "logs", "*-features*.log")
    assert {log.name.partition("-")[0] for log in logs} >= {"one", "two"}  # `one` is gone
    still, alone = _study(machines, "still")
    said = machines.tis_ray("two", "select", "-c", still, "--set", "compute.address=null")
    assert said.returncode == 0, said.stderr
    assert _ordering(study) == _ordering(alone)


def _wait(condition: Any, run: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < end
        time.sleep(1.0)
