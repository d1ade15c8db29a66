"""Lines as JSON objects: what each says, and that nothing else comes between."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tis_ray.errors import InputError
from tis_ray.log import RunLog
from tis_ray.log.json_lines import (
    VARIABLE,
    JsonLines,
    json_line,
    lines_about,
    lines_are_json,
    stderr_console,
)
from tis_ray.log.sign_of_life import SignOfLife

KEYS = ["time", "level", "study", "stage", "shard", "node", "message"]


def objects(file: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


@pytest.fixture
def file() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(tmp_path: Path, file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> RunLog:
    monkeypatch.setenv(VARIABLE, "json")
    monkeypatch.setattr(sys, "stderr", file)
    return RunLog(tmp_path / "runs" / "tiny")


def test_a_line_of_a_run_says_study_stage_and_node(log: RunLog, file: io.StringIO) -> None:
    with log.waiting("features less", "loading"):
        log.say(("✓", "green"), " warm [x]", (" note", "dim"))
    (line,) = objects(file)
    assert list(line) == KEYS
    assert (line["study"], line["stage"]) == ("tiny", "features less")
    assert (line["node"], line["shard"], line["level"]) == (socket.gethostname(), None, "info")
    assert line["message"] == "✓ warm [x] note"
    assert datetime.fromisoformat(line["time"]).utcoffset() is not None


def test_signs_of_life_are_lines_too(
    log: RunLog, file: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tis_ray.log.sign_of_life.OFTEN", 0.0)
    monkeypatch.setattr("tis_ray.log.sign_of_life.TICK", 0.02)
    with log.waiting("features less", "loading"):
        while not file.getvalue():
            pass
    assert objects(file)[0]["stage"] == "features less"
    assert objects(file)[0]["message"].startswith("features less: loading (")


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("failed: the disk is full", "error"),
        ("error: budget: found -1", "error"),
        ("warning: few rows", "warning"),
        ("nothing failed: all is well", "info"),
    ],
)
def test_the_first_word_of_a_line_tells_its_level(message: str, level: str) -> None:
    assert json.loads(json_line(message))["level"] == level


def test_lines_are_whole_and_those_of_a_job_stay_as_they_are(file: io.StringIO) -> None:
    lines = JsonLines(file)
    job = json_line("of the job", "other", "tokens pool", 3)
    with lines_about("tiny", None):
        lines.write("\x1b[31mone\x1b[0m ")
        assert not file.getvalue()
        lines.write("half\n\n" + job + "\n")
    one, two = objects(file)
    assert (one["message"], one["study"], one["stage"]) == ("one half", "tiny", None)
    assert two == json.loads(job)
    assert two["shard"] == 3


def test_nothing_moves_and_nothing_is_coloured(log: RunLog) -> None:
    assert not log.console.is_terminal
    assert not SignOfLife(log.console)._moves


def test_without_the_variable_lines_are_text(
    file: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stderr", file)
    assert not lines_are_json()
    stderr_console().print("as it is")
    assert file.getvalue() == "as it is\n"


def test_a_form_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "yaml")
    with pytest.raises(InputError, match="TIS_RAY_LOG: found `yaml`; use text or json"):
        lines_are_json()


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_program_complains_in_the_form_that_is_asked_for(form: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tis_ray.cli", "status", "--config", "none.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, VARIABLE: form},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    if form == "json":
        found = [json.loads(line) for line in done.stderr.splitlines()]
        assert [line["level"] for line in found] == ["error"]
        assert "none.yaml" in found[0]["message"]
    else:
        assert done.stderr == "error: TIS_RAY_LOG: found `yaml`; use text or json\n"
