"""Ctrl-C and SIGTERM, at any moment of a run: one line, the right code, no process left; then the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from tests.small import ordering_bytes, small_study

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]

STAGES = ("loading", "reading", "starting Ray", "warm-up", "features", "fine-tune", "page")
"""What a run is busy with, one after the other, as its `live.json` says it."""


def start(folder: Path, mark: str) -> subprocess.Popen[str]:
    """Start the run in a group of its own; `mark` finds the processes that it starts."""
    return subprocess.Popen(
        [sys.executable, "-m", "tis_ray.cli", "run", "--config", "study.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TRIAL": mark},
    )


def busy_with(folder: Path, process: subprocess.Popen[str]) -> str:
    try:
        live = json.loads((folder / "runs" / "small" / "live.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return ""
    return f"{live['stage']} {live['state']}" if live["pid"] == process.pid else ""


def left_over(mark: str) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        try:
            if process.environ().get("TRIAL") == mark and process.status() != "zombie":
                found.append(" ".join(process.info["cmdline"])[:80])
        except psutil.Error:
            continue
    return found


def interrupted(
    folder: Path, stage: str, later: float, send: Callable[[int, int], None], number: int
) -> None:
    """Send a signal to a run, `later` seconds after it has come to a stage or one that follows."""
    mark = uuid.uuid4().hex
    process = start(folder, mark)
    wanted = STAGES[STAGES.index(stage) :]
    deadline = time.monotonic() + 300
    while not any(name in busy_with(folder, process) for name in wanted):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(later)
    began = time.monotonic()
    send(process.pid, number)
    out, said = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 128 + number, said
    assert said.splitlines()[-1] == "stopped; the same command continues"
    assert not any(word in said + out for word in ("Traceback", "***", "raylet", "SIGTERM"))
    assert left_over(mark) == []
    told = subprocess.run(
        [sys.executable, "-m", "tis_ray.cli", "status", "--config", "study.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    by = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"stopped  by {by} after" in told


def make(folder: Path) -> None:
    (folder / "study.yaml").write_text(yaml.safe_dump(small_study(folder)))


def continued(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tis_ray.cli", "run", "--config", "study.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def cells(folder: Path) -> dict[str, tuple[float, float]]:
    """Return the losses of each cell by its artifact's name."""
    found = {}
    for path in sorted((folder / "artifacts").glob("cell-*/metrics.json")):
        metrics = json.loads(path.read_text())
        found[path.parent.name] = metrics["query_loss"], metrics["test_loss"]
    return found


def test_a_run_that_was_interrupted_continues_to_the_same_bytes(
    undisturbed: Path, tmp_path: Path
) -> None:
    """After Ray Train has left its handler behind, by a terminal's Ctrl-C, and while cells train."""
    make(tmp_path)
    interrupted(tmp_path, "features", 1.0, os.killpg, signal.SIGINT)
    interrupted(tmp_path, "fine-tune", 2.0, os.kill, signal.SIGTERM)
    continued(tmp_path)
    assert ordering_bytes(tmp_path) == ordering_bytes(undisturbed)
    assert cells(tmp_path) == cells(undisturbed)


@pytest.mark.slow
def test_a_run_may_be_interrupted_at_any_moment_of_any_stage(
    undisturbed: Path, tmp_path: Path
) -> None:
    make(tmp_path)
    chance = random.Random(0)
    for stage in STAGES[:-1]:
        for number in (signal.SIGINT, signal.SIGTERM):
            send = chance.choice([os.kill, os.killpg])
            interrupted(tmp_path, stage, chance.uniform(0, 3), send, number)
    continued(tmp_path)
    assert ordering_bytes(tmp_path) == ordering_bytes(undisturbed)
    assert cells(tmp_path) == cells(undisturbed)
