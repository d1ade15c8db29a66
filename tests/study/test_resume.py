"""SIGKILL the driver in the middle of its work, run the same command again: the same results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient

from tests.small import ordering_bytes, small_study
from tis_ray.report import StudyRecord

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "tis_ray.cli", "run", "--config", str(config)]


def kill_when(config: Path, reached: Callable[[], bool], log: Path) -> None:
    """Start the run in a group of its own and SIGKILL the driver once `reached`."""
    with log.open("w") as out:
        driver = subprocess.Popen(
            command(config), stdout=out, stderr=out, start_new_session=True, cwd=config.parent
        )
    deadline = time.monotonic() + 600
    while not reached():
        assert driver.poll() is None, f"the run ended before it could be killed: {log.read_text()}"
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()


def kill_a(kind: str) -> bool:
    """SIGKILL a process of a kind of Ray's, of the cluster that was started last, if there is one."""
    found = [
        process
        for process in psutil.process_iter(["cmdline", "create_time"])
        if any(kind in part for part in process.info["cmdline"] or [])
    ]
    if found:
        max(found, key=lambda process: process.info["create_time"]).kill()
    return bool(found)


def last_start(folder: Path) -> list[dict]:
    lines = (folder / "runs" / "small" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    starts = [i for i, event in enumerate(events) if event["event"] == "start"]
    return events[starts[-1] :]


def test_a_killed_driver_continues_and_ends_in_the_same_bytes(undisturbed, tmp_path):
    study = small_study(tmp_path)
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(study))
    artifacts = tmp_path / "artifacts"

    # First in featurisation, when some pool shards are written and others are not.
    kill_when(
        config,
        lambda: bool(list(artifacts.glob("store-less-*/pool/*.safetensors"))),
        tmp_path / "first.log",
    )
    done = {p: p.stat().st_mtime_ns for p in artifacts.glob("store-less-*/pool/*.safetensors")}
    assert not list(artifacts.glob("features-less-*/_SUCCESS"))
    (clock,) = artifacts.glob("features-less-*/clock.json")
    spent = json.loads(clock.read_text())["seconds"]

    # Then in fine-tuning, when a cell has its first epoch behind it or a cell has ended.
    kill_when(
        config,
        lambda: bool(
            list(artifacts.glob("cell-*/checkpoints/epoch-1"))
            + list(artifacts.glob("cell-*/adapter"))
        ),
        tmp_path / "second.log",
    )
    second = last_start(tmp_path)
    reused = [
        e for e in second if e["event"] == "stage" and "rows were already in the store" in e["note"]
    ]
    assert reused, "the log does not say how many rows were reused"
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())

    ended = subprocess.run(command(config), capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    stages = {e["stage"]: e for e in last_start(tmp_path) if e["event"] == "stage"}
    assert stages["warm-up"]["reused"]
    assert stages["features less"]["reused"]
    # What the first start cost is not forgotten; the clock was marked meanwhile.
    (again,) = [e for e in second if e["event"] == "stage" and e["stage"] == "features less"]
    took = again["time"] - second[0]["time"]  # of the second start, the model's loading included
    assert spent < stages["features less"]["seconds"] < spent + took
    assert not list(artifacts.glob("*/clock.json"))
    assert ordering_bytes(tmp_path) == ordering_bytes(undisturbed)
    cells = [
        [
            cell.to_json()
            for cell in StudyRecord.load(folder / "runs/small/report/record.json").cells
        ]
        for folder in (tmp_path, undisturbed)
    ]
    for mine, theirs in zip(*cells, strict=True):
        assert mine["test_loss"] == theirs["test_loss"]
        assert mine["query_loss"] == theirs["query_loss"]


def test_after_kills_of_trial_worker_and_driver_mlflow_holds_each_cell_once(tmp_path):
    study = small_study(
        tmp_path,
        representation="bm25",
        seed=[0, 1, 2],
        finetune__epochs=10,
        finetune__workers=1,
        tracking__enabled=True,
    )
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(study))
    artifacts = tmp_path / "artifacts"
    kinds, ended = ["ImplicitFunc", "RayTrainWorker"], []  # a trial, then a worker of Ray Train

    def killed_both_and_a_cell_later() -> bool:
        done = len(list(artifacts.glob("cell-*/_SUCCESS")))
        waited = not ended or done > ended[-1]  # a cell has ended since the last kill
        if not waited or not list(artifacts.glob("cell-*/checkpoints/epoch-*")):
            return False
        if not kinds:
            return True
        if kill_a(kinds[0]):
            ended.append(done)
            kinds.pop(0)
        return False

    kill_when(config, killed_both_and_a_cell_later, tmp_path / "first.log")

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")

    def runs() -> list:
        (experiment,) = [e for e in client.search_experiments() if e.name == "tis-ray"]
        return client.search_runs([experiment.experiment_id], max_results=100)

    # Nobody was left to say that the study had ended; its first cells had.
    before = {run.info.run_name: run.info.status for run in runs()}
    assert before.pop("small") == "RUNNING"
    assert "FINISHED" in before.values()
    for _ in range(2):
        again = subprocess.run(command(config), capture_output=True, text=True, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        names = [run.info.run_name for run in runs()]
        # The study, a run for each of 4 methods, and the cells of zero-shots, random and BM25.
        assert len(names) == len(set(names)) == 1 + 4 + 2 + 3 + 3
        assert {run.info.status for run in runs()} == {"FINISHED"}
        steps = [len(client.get_metric_history(r.info.run_id, "train_loss")) for r in runs()]
        assert sorted(steps) == [0] * 7 + [30] * 6
