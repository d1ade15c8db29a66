"""`status --follow`: it shows what changes, ends when the run ends, and its exit code says how."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.buckets import BUCKET, s3_server
from tis_ray.config import Config, config_yaml, parse_config
from tis_ray.finished import follow
from tis_ray.finished.follow import follow_json, follow_lines
from tis_ray.finished.status import Runs
from tis_ray.log import RunLog
from tis_ray.store import write_text


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "OFTEN", 0.05)


def study(runs: str) -> Config:
    data = {"pool": "p.jsonl", "query": "q.jsonl", "test": "t.jsonl"}
    return parse_config({"name": "tiny", "runs": runs, "data": data, "budget": 4})


@contextmanager
def running(
    config: Config, *events: tuple[str, dict[str, Any]], pause: float = 0.3
) -> Iterator[None]:
    """Let a run go on beside the block: a start, then these events, one after the other."""
    log = RunLog(config.run_dir, Console(file=io.StringIO()))

    def work() -> None:
        time.sleep(pause)
        log.event(
            "start",
            until="report",
            command="tis-ray run",
            pid=os.getpid(),
            host=socket.gethostname(),
        )
        for kind, facts in events:
            time.sleep(pause)
            log.event(kind, **facts)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


STAGE = {
    "stage": "tokens pool",
    "rows": 7,
    "quarantined": 1,
    "seconds": 1.25,
    "reused": False,
    "note": "",
    "artifact": "a/tokens-1",
    "details": [],
}


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (("done", {"seconds": 1.0}), 0),
        (("failed", {"error": "the disk is full", "code": 1}), 1),
        (("failed", {"error": "budget: found -1", "code": 2}), 2),
        (("stopped", {"by": "Ctrl-C"}), 130),
        (("stopped", {"by": "SIGTERM"}), 143),
    ],
)
def test_the_exit_code_says_how_the_run_ended(
    tmp_path: Path, end: tuple[str, dict[str, Any]], code: int
) -> None:
    config, file = study(str(tmp_path)), io.StringIO()
    with running(config, ("stage", STAGE), end):
        assert follow_lines(Runs.of(config), Console(file=file, width=110)) == code
    lines = file.getvalue().splitlines()
    assert lines[0].endswith("not started; `tis-ray run`, or `study.run()`, starts it")
    assert [line.split()[0] for line in lines if "tokens pool" in line] == ["done"]
    assert lines[-1].split()[0] == end[0]


def test_a_run_whose_process_is_gone_is_lost(tmp_path: Path) -> None:
    config = study(str(tmp_path))
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    log = RunLog(config.run_dir, Console(file=io.StringIO()))
    log.event("start", until="report", command="x", pid=int(gone.stdout), host=socket.gethostname())
    assert follow_lines(Runs.of(config), Console(file=io.StringIO())) == 1


def test_each_change_is_a_json_object(tmp_path: Path) -> None:
    config, said = study(str(tmp_path)), []
    restart = {"stage": "features less", "node": "n2"}
    with running(config, ("stage", STAGE), ("restart", restart), ("done", {"seconds": 1.0})):
        assert follow_json(Runs.of(config), said.append) == 0
    states = [json.loads(line)["studies"][0] for line in said]
    assert [state["state"] for state in states] == ["not started", *["running"] * 3, "done"]
    assert [len(state["stages"]) for state in states] == [0, 0, 1, 1, 1]
    assert [state["restarts"] for state in states] == [0, 0, 0, 1, 1]
    assert states[-1]["code"] == 0


def test_the_studies_of_a_file_are_followed_until_the_last_has_ended(tmp_path: Path) -> None:
    one = study(str(tmp_path)).model_dump(mode="json") | {"seed": 0}
    task = {"query": "q.jsonl", "test": "t.jsonl"}
    data = {"pool": "p.jsonl"}
    config = parse_config(
        {
            "name": "two",
            "runs": one["runs"],
            "data": data,
            "budget": 4,
            "tasks": {"a": task, "b": task},
        }
    )
    from tis_ray.config import plan

    a, b = plan(config).values()
    with (
        running(a, ("failed", {"error": "x", "code": 1})),
        running(b, ("stage", STAGE), ("done", {"seconds": 1.0})),
    ):
        assert follow_lines(Runs.of(config), Console(file=(file := io.StringIO()))) == 1
    assert "done     in" in file.getvalue()


def test_logs_of_workers_are_named_after_a_failure(tmp_path: Path) -> None:
    config, file = study(str(tmp_path)), io.StringIO()
    failure = {
        "stage": "features less",
        "error": "x",
        "logs": ["runs/tiny/logs/n1-features_less-7.log"],
    }
    with running(config, ("failure", failure), ("failed", {"error": "x", "code": 1})):
        follow_lines(Runs.of(config), Console(file=file, width=110))
    assert file.getvalue().splitlines()[-1].strip() == f"log of a worker: {failure['logs'][0]}"


def test_a_run_in_a_bucket_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "pace", lambda place, seconds: 0.2)
    with s3_server():
        config = study(f"s3://{BUCKET}/runs")
        with running(config, ("done", {"seconds": 1.0})):
            assert follow_lines(Runs.of(config), Console(file=io.StringIO())) == 0


def test_ctrl_c_ends_it_and_says_that_the_run_goes_on(tmp_path: Path) -> None:
    config = study(str(tmp_path))
    write_text(tmp_path / "study.yaml", config_yaml(config))
    log = RunLog(config.run_dir, Console(file=io.StringIO()))
    log.event("start", until="report", command="x", pid=os.getpid(), host=socket.gethostname())
    following = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tis_ray.cli",
            "status",
            "--config",
            "study.yaml",
            "--follow",
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["studies"][0]["state"] == "running"
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=60)
    assert following.returncode == 130
    assert (out, err) == ("", "no longer following; the run is as it was\n")


def test_following_a_stopped_run_ends_with_its_code_and_without_a_word_of_its_own(
    tmp_path: Path,
) -> None:
    config = study(str(tmp_path))
    write_text(tmp_path / "study.yaml", config_yaml(config))
    log = RunLog(config.run_dir, Console(file=io.StringIO()))
    log.event("start", until="report", command="x", pid=1, host="elsewhere")
    log.event("stopped", by="Ctrl-C")
    done = subprocess.run(
        [sys.executable, "-m", "tis_ray.cli", "status", "--config", "study.yaml", "--follow"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert "stopped  by Ctrl-C" in done.stdout
