"""What is seen of a study while it runs: logs of workers, restarts, failures, nodes, metrics. All deaths are real."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from rich.console import Console

from tis_ray.batches import collate
from tis_ray.distributed import worker_logs
from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.metrics import METRICS, done_since, prometheus_name
from tis_ray.distributed.observed import observed
from tis_ray.distributed.shards import map_shards
from tis_ray.distributed.trials import report_trial, run_trials
from tis_ray.errors import InputError
from tis_ray.log import RunLog
from tis_ray.log.json_lines import VARIABLE
from tis_ray.store import write_json

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Reading:
    """A worker that reads and writes, says something, and is killed on shard 2 the first time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, shard: int) -> dict[str, Any]:
        print(f"reading {shard}")  # noqa: T201
        collate([{"input_ids": [1, 2, 3, 4], "labels": [-100, 2, 3, 4]}])
        write_json(self.folder / f"{shard}.json", "x" * 998)
        if shard == 2 and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            print("last words of a worker", file=sys.stderr, flush=True)  # noqa: T201
            os.kill(os.getpid(), signal.SIGKILL)
        return {"rows": 10, "seconds": 0.5}


class Refusing:
    """A worker that finds bad input on shard 1."""

    def __call__(self, shard: int) -> dict[str, Any]:
        if shard == 1:
            raise InputError("row 7: found nothing")
        return {"rows": 1, "seconds": 0.1}


def study(folder: Path) -> Any:
    console = Console(file=io.StringIO(), width=110)
    return SimpleNamespace(cluster=Cluster(4, 0, 1, 0, actors=1), log=RunLog(folder, console))


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def exported(until: dict[str, float]) -> dict[str, float]:
    """Return our metrics as Prometheus gets them from this cluster's node, once these are among them.

    Ray exports every ten seconds, and a level only once after it was told; so what was seen before counts too.
    """
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    found: dict[str, float] = {}
    for _ in range(90):
        text = urllib.request.urlopen(address, timeout=60).read().decode()
        ours = [line for line in text.splitlines() if 'study="counted"' in line]
        found |= {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in ours}
        if until.items() <= found.items():
            break
        time.sleep(1)
    return found


def test_a_lost_worker_is_recorded_counted_and_leaves_its_last_words(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_logs, "OFTEN", 0.1)
    here = study(tmp_path / "counted")
    with observed(here.log):
        totals = map_shards(Reading, {"folder": tmp_path}, range(4), here, "features less")
    assert totals["rows"] == 40
    (restart,) = events(here.log.run_dir, "restart")
    assert restart["stage"] == "features less"
    (lost,) = restart["logs"]
    assert "last words of a worker" in Path(lost).read_text()
    assert "a worker was lost, and started again" in here.log.console.file.getvalue()
    logs = sorted((here.log.run_dir / "logs").glob("*-features_less-*.log"))
    assert len(logs) == 2
    assert all("reading" in log.read_text() for log in logs)

    expected = {
        "rows": 40,
        "shards": 4,
        "busy_seconds": 2.0,
        "starts": 2,
        "restarts": 1,
        # A killed worker has read and written what nobody hears of: shard 2 the first time.
        "tokens": 4 * 3,
        "units_left": 0,
        "units_planned": 4,
        "nodes": 1,
    }
    named = {prometheus_name(name): value for name, value in expected.items()}
    metrics = exported(named)
    assert {name: metrics.get(name) for name in named} == named
    assert metrics[prometheus_name("written_bytes")] >= 4000
    assert set(metrics) <= {prometheus_name(name) for name in METRICS}


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_failure_names_the_log_with_the_traceback(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv(VARIABLE, form)
    here = study(tmp_path / form)
    with pytest.raises(InputError, match="row 7"):
        map_shards(Refusing, {}, range(2), here, "screen: words")
    (failure,) = events(here.log.run_dir, "failure")
    assert failure["stage"] == "screen: words"
    assert failure["error"] == "row 7: found nothing"
    (name,) = failure["logs"]
    assert Path(name).parent == here.log.run_dir / "logs"
    lines = Path(name).read_text().splitlines()
    if form == "json":
        found = [json.loads(line) for line in lines]
        (failed,) = [line for line in found if line["level"] == "error"]
        assert (failed["study"], failed["stage"], failed["shard"]) == ("json", "screen: words", 1)
        assert "Traceback (most recent call last)" in failed["message"]
        assert "in __call__" in failed["message"]
    else:
        assert lines[0].startswith("--- said by process ")
        assert any(line.endswith("shard 0 is done") for line in lines)
        assert "Traceback (most recent call last):" in lines[2] + lines[3] + lines[4] + lines[5]


def test_a_log_keeps_the_beginning_and_the_end(tmp_path: Path) -> None:
    file = tmp_path / "worker-a-01000000-7.err"
    with file.open("w") as out:
        out.write("first\n" + "x" * 999 + "\n")
        out.writelines("y" * 999 + "\n" for _ in range(2000))
        out.write("last\n")
    work = worker_logs.Work("tiny", "features less", tmp_path / "run", as_json=False)
    log = work.log(7)
    worker_logs._write(log, work, [file])
    text = log.read_text()
    assert "first\n" in text
    assert text.endswith("last\n")
    assert "bytes were left out" in text
    assert len(text) < worker_logs.HEAD + worker_logs.TAIL + 1000


def fails_once(order: Path) -> None:
    """A trial that fails the first time, or always where it is told to."""
    print("a trial's own words")  # noqa: T201
    if order.name == "never" or not order.exists():
        order.touch()
        raise RuntimeError("it does not work")
    write_json(order.with_suffix(".json"), "x" * 998)
    report_trial({"test_loss": 1.0, "query_loss": 1.0})


@pytest.mark.slow
def test_trials_tell_what_they_did_and_which_failed(ray_cluster: Any, tmp_path: Path) -> None:
    here = study(tmp_path / "cells")
    orders = {"one": tmp_path / "once", "two": tmp_path / "never"}
    with observed(here.log), here.log.waiting("fine-tune, evaluate"):
        errors = run_trials("t", fails_once, orders, tmp_path, resources={"CPU": 1}, at_once=1)
    assert list(errors) == ["two"]
    assert {event["order"] for event in events(here.log.run_dir, "retry")} == {"one", "two"}
    (failure,) = events(here.log.run_dir, "failure")
    assert (failure["order"], failure["stage"]) == ("two", "fine-tune, evaluate")
    assert "it does not work" in failure["error"]
    text = "".join(Path(log).read_text() for log in failure["logs"])
    assert "a trial's own words" in text
    assert "RuntimeError: it does not work" in text


def test_what_a_process_did_is_told_once() -> None:
    done_since()
    collate([{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}] * 2)
    assert done_since()["tokens"] == 4
    assert done_since() == {"tokens": 0, "retries": 0, "written_bytes": 0}
