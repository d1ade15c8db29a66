"""A cluster of three machines that share nothing but a bucket: the same bytes and numbers as on one machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.buckets import BUCKET
from tests.distributed.test_submit import environment
from tests.hosts import BIN, GCS, Machines, cluster_with_bucket
from tests.small import small_study
from tis_ray.data import builtin
from tis_ray.storage import Place, followed, place
from tis_ray.store import read_json

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]
DASHBOARD = "8265"


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """A head without work, two workers, and a machine that is no part of the cluster; a bucket for all."""
    names, joined = ["head", "one", "two", "away"], ["head", "one", "two"]
    with cluster_with_bucket(names, joined, environment()) as made:
        yield made


@pytest.fixture(scope="module")
def config(machines: Machines) -> dict[str, Any]:
    """A study in the bucket."""
    rows = [row for _, row in zip(range(160), builtin.iter_pool_rows(160, seed=0), strict=False)]
    place(f"s3://{BUCKET}/pool/part.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
    study = small_study(machines.own, budget=[8, 12], compute__actors=2, finetune__workers=0)
    study["data"]["pool"] = {"path": f"s3://{BUCKET}/pool"}
    study |= {"runs": f"s3://{BUCKET}/runs", "artifacts": f"s3://{BUCKET}/artifacts"}
    return study


def _written(study: dict[str, Any], name: str) -> str:
    """Put a config into the bucket, where every machine reads it."""
    file = place(f"s3://{BUCKET}/{name}.yaml")
    file.write_text(yaml.safe_dump(study))
    return str(file)


def _numbers(run: Place) -> list[Any]:
    cells = read_json(run / "report" / "record.json")["cells"]
    return [{name: cell.get(name) for name in ("metrics", "budget", "seed")} for cell in cells]


def _ordering(run: Place) -> bytes:
    return (followed(run / "orderings" / "less-round_robin") / "ordering.parquet").read_bytes()


@pytest.fixture(scope="module")
def on_one(machines: Machines, config: dict[str, Any], tmp_path_factory: Any) -> Place:
    """The run folder of the same study on one machine, which is no part of the cluster."""
    del tmp_path_factory
    study = {**config, "artifacts": f"s3://{BUCKET}/alone", "runs": f"s3://{BUCKET}/alone-runs"}
    said = machines.tis_ray("away", "run", "-c", _written(study, "alone"))
    assert said.returncode == 0, said.stderr
    return place(study["runs"]) / "small"


def test_a_folder_that_each_node_has_for_itself_is_found_out(
    machines: Machines, config: dict[str, Any]
) -> None:
    here = {"runs": str(machines.own / "runs"), "artifacts": str(machines.own / "artifacts")}
    study = {**config, **here, "compute": {"address": f"{machines.hosts['head'].address}:{GCS}"}}
    said = machines.tis_ray("head", "select", "-c", _written(study, "disks"), timeout=120)
    assert said.returncode == 2
    lines = [line for line in said.stderr.splitlines() if "does not see" in line]
    assert len(lines) == 2, said.stderr
    assert "node one" in lines[0]
    assert "node two" in lines[1]
    assert "Traceback" not in said.stderr


def test_the_study_is_that_of_one_machine(
    machines: Machines, config: dict[str, Any], on_one: Place
) -> None:
    study = {
        **config,
        "compute": {"address": f"{machines.hosts['head'].address}:{GCS}", "actors": 2},
    }
    said = machines.tis_ray("head", "run", "-c", _written(study, "cluster"))
    assert said.returncode == 0, said.stderr
    run = place(config["runs"]) / "small"
    assert _ordering(run) == _ordering(on_one)
    assert _numbers(run) == _numbers(on_one)


def test_a_machine_away_from_the_cluster_submits_and_reads(
    machines: Machines, config: dict[str, Any], on_one: Place
) -> None:
    study = {**config, "name": "job", "artifacts": f"s3://{BUCKET}/of-the-job"}
    address = f"http://{machines.hosts['head'].address}:{DASHBOARD}"
    file = _written(study, "job")
    said = machines.tis_ray("away", "submit", "-c", file, "--address", address, "--follow")
    assert said.returncode == 0, said.stdout + said.stderr
    run = place(config["runs"]) / "job"
    assert _ordering(run) == _ordering(on_one)
    assert _numbers(run) == _numbers(on_one)
    status = machines.tis_ray("away", "status", "-c", str(run), "--json")
    assert json.loads(status.stdout)["studies"][0]["state"] == "done"
    explained = machines.tis_ray("away", "explain", "-c", str(run))
    assert explained.returncode == 0, explained.stderr


def test_workers_on_other_machines_read_a_pool_in_the_bucket(
    machines: Machines, config: dict[str, Any], on_one: Place
) -> None:
    """As they read a large one."""
    study = {**config, "name": "parted", "artifacts": f"s3://{BUCKET}/parted"}
    study["compute"] = {"address": f"{machines.hosts['head'].address}:{GCS}", "actors": 2}
    program = (
        "import sys; from tis_ray.stages import ingest; ingest.LARGE = 1; ingest.BYTES = 10_000\n"
        "sys.argv = ['tis-ray', 'select', '-c', sys.argv[1]]\n"
        "from tis_ray.cli import main; main()"
    )
    words = (str(BIN / "python"), "-c", program, _written(study, "parted"))
    said = machines.hosts["head"].run(*words, cwd=machines.own, env=machines.env)
    assert said.returncode == 0, said.stderr
    assert _ordering(place(config["runs"]) / "parted") == _ordering(on_one)
    events = (place(config["runs"]) / "parted" / "events.jsonl").read_text().splitlines()
    reading = [event for event in map(json.loads, events) if event.get("label") == "pool: reading"]
    assert {*reading[0]["nodes"]} == {"one", "two"}


def test_machines_that_do_not_see_a_pool_are_named(machines: Machines) -> None:
    """What the head has for itself, and what all have."""
    head = machines.hosts["head"]
    program = (
        "import sys, ray; from pathlib import Path\n"
        "from tis_ray.distributed.preflight import nodes_without\n"
        "own = Path('pool.jsonl').absolute(); own.write_text('{}')\n"
        f"ray.init(address='{head.address}:{GCS}', log_to_driver=False)\n"
        "print(nodes_without([own]), nodes_without([Path('/etc/passwd')]))"
    )
    said = head.run(str(BIN / "python"), "-c", program, cwd=machines.own, env=machines.env)
    assert said.stdout == "['one', 'two'] []\n", said.stderr
