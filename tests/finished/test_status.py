"""What `status` says of a run, from the events it left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tis_ray.config import Config, parse_config, plan
from tis_ray.errors import InputError
from tis_ray.finished.status import Runs, status_json, status_lines
from tis_ray.log import Activity, sign_of_life
from tis_ray.log.sign_of_life import LIVE


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse_config(
        {
            "name": "tiny",
            "runs": str(tmp_path / "runs"),
            "data": {"pool": "p.jsonl", "query": "q.jsonl", "test": "t.jsonl"},
            "budget": 4,
        }
    )


def events(config: Config, *lines: object) -> list[str]:
    config.run_dir.mkdir(parents=True, exist_ok=True)
    text = "".join(
        line if isinstance(line, str) else json.dumps({"time": 1.7e9, **line}) + "\n"  # type: ignore[dict-item]
        for line in lines
    )
    (config.run_dir / "events.jsonl").write_text(text)
    return list(status_lines(Runs.of(config)))


def start(
    pid: int = 0, command: str = "tis-ray run", until: str = "report", host: str = ""
) -> dict[str, object]:
    host = host or socket.gethostname()
    return {"event": "start", "until": until, "command": command, "pid": pid, "host": host}


def live(config: Config, ago: float, **facts: object) -> None:
    """Leave what a run says of itself while it goes on, `ago` seconds ago."""
    activity = Activity("features less", "shards", 9, "waiting for a worker")
    left = sign_of_life._live(activity)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    held = {**asdict(left), "now": time.time() - ago, **facts}
    (config.run_dir / LIVE).write_text(json.dumps(held))


def stage(name: str, reused: bool = False, note: str = "") -> dict[str, object]:
    return {
        "event": "stage",
        "stage": name,
        "artifact": "x",
        "seconds": 1.25,
        "reused": reused,
        "rows": 7,
        "quarantined": 1,
        "device": "cpu",
        "peak_mb": 5.0,
        "note": note,
    }


def dead_pid() -> int:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_status_tells_the_last_start_stage_by_stage(config: Config) -> None:
    lines = events(
        config,
        start(command="tis-ray featurize"),
        stage("tokens pool"),
        {"event": "failed", "error": "InputError: budget"},
        start(),
        stage("tokens pool", reused=True),
        stage("warm-up", note="continued after epoch 1"),
        {"event": "cells", "total": 9, "reused": 2, "to_train": 7},
        {"event": "done", "seconds": 3.0, "time": 1.7e9 + 3},
    )
    assert lines[0].startswith("tiny: start 2, 20")
    assert lines[0].endswith(": tis-ray run")
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "done tokens pool 7 rows, 1 quarantined reused",
        "done warm-up 7 rows, 1 quarantined 1.2 s continued after epoch 1",
        "cells 9 in all, 2 reused",
        "done in 3 s; its page is gone; `tis-ray report` draws it",
    ]


@pytest.mark.parametrize(
    ("until", "left"),
    [
        ("featurize", "features: {}/features"),
        ("select", "orderings: {}/orderings"),
        ("evaluate", "models are trained and evaluated; `tis-ray run` draws the page"),
        ("report", "page: {}/report/index.html"),
    ],
)
def test_status_tells_what_a_start_has_left(config: Config, until: str, left: str) -> None:
    page = config.run_dir / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    lines = events(config, start(until=until), {"event": "done", "seconds": 3.0, "time": 1.7e9 + 3})
    assert lines[-1] == f"  done     in 3 s; {left.format(config.run_dir)}"


@pytest.mark.parametrize(
    "event",
    [
        {"event": "start", "command": "tis-ray run"},
        {"event": "start", "until": "report", "pid": 1},
        {"event": "start", "until": "train", "command": "tis-ray run", "pid": 1},
    ],
)
def test_events_of_another_version_are_bad_input(config: Config, event: Any) -> None:
    with pytest.raises(
        InputError, match=r"events.jsonl: was written by another version of tis_ray"
    ):
        events(config, event, {"event": "done", "seconds": 1.0})


def test_status_tells_how_a_run_failed(config: Config) -> None:
    lines = events(config, start(), {"event": "failed", "error": "RuntimeError: no memory"})
    assert lines[-1].split(maxsplit=1) == ["failed", "RuntimeError: no memory"]


def test_status_tells_a_running_study_from_one_that_was_killed(config: Config) -> None:
    assert (
        events(config, start(os.getpid()))[-1].strip()
        == "waiting  nothing has begun here yet; studies of a file run one after the other"
    )
    assert events(config, start(dead_pid()), stage("warm-up"))[-1].startswith(
        "  lost     it stopped before its end"
    )


def test_status_reads_past_a_half_written_line(config: Config) -> None:
    lines = events(config, start(dead_pid()), stage("warm-up"), '{"time": 1.7e9, "eve')
    assert "warm-up" in lines[1]
    assert "it stopped before its end" in lines[-1]


def test_status_of_a_live_run_is_what_it_is_busy_with(config: Config) -> None:
    live(config, 1, words="3 of 9 shards, 41 rows/s, 2:10 left")
    lines = events(config, start(os.getpid()))
    assert lines[-1] == "  running  features less: 3 of 9 shards, 41 rows/s, 2:10 left"


def test_on_another_machine_the_sign_of_life_counts(config: Config) -> None:
    live(config, 5, words="3 of 9 shards")
    there = start(os.getpid(), host="node-7")
    assert events(config, there)[-1] == "  running  features less: 3 of 9 shards on node-7"
    live(config, 100)
    assert (
        "lost     it stopped before its end (no sign of life since 20" in events(config, there)[-1]
    )


@pytest.mark.parametrize("by", ["Ctrl-C", "SIGTERM"])
def test_status_tells_who_stopped_a_run(config: Config, by: str) -> None:
    lines = events(config, start(), {"event": "stopped", "by": by, "time": 1.7e9 + 70})
    assert lines[-1] == f"  stopped  by {by} after 1:10; the same command continues"


def test_status_names_why_rows_were_not_used(config: Config) -> None:
    lost = {**stage("features less"), "details": ["1 zero gradient", "listed in a/q.parquet"]}
    lines = events(config, start(), lost)
    assert [line.strip() for line in lines[2:4]] == ["1 zero gradient", "listed in a/q.parquet"]


def test_status_as_json_has_every_study_and_what_it_is_busy_with(config: Config) -> None:
    several = parse_config({**config.model_dump(mode="json"), "grid": {"finetune.epochs": [1, 2]}})
    first, second = plan(several).values()
    live(first, 1, done=3)
    events(first, start(os.getpid()), stage("pool"))
    found = json.loads(status_json(Runs.of(several)))
    assert [study["name"] for study in found["studies"]] == [first.name, second.name]
    assert [study["state"] for study in found["studies"]] == ["running", "not started"]
    assert found["studies"][0]["now"]["done"] == 3
    assert found["studies"][0]["stages"][0]["rows"] == 7
    assert found["page"] is None


def test_status_of_nothing(config: Config) -> None:
    assert "not started; `tis-ray run`, or" in next(status_lines(Runs.of(config)))
    assert "not started" in events(config, '{"time"')[0]


def test_each_study_of_a_file_is_told_and_the_page_of_all(config: Config) -> None:
    raw = config.model_dump(mode="json")
    several = parse_config({**raw, "grid": {"finetune.epochs": [1, 2]}})
    first, second = plan(several).values()
    events(first, start(), {"event": "done", "seconds": 3.0, "time": 1.7e9 + 3})
    lines = list(status_lines(Runs.of(several)))
    assert lines[0].startswith("tiny-finetune.epochs-1: start 1, 20")
    assert lines[1].strip().startswith("done     in 3 s; ")
    assert lines[2] == f"{second.run_dir}: not started; `tis-ray run`, or `study.run()`, starts it"
    assert lines[3] == "tiny: no page of all studies yet; `tis-ray run` draws it"
    page = several.run_dir / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    assert list(status_lines(Runs.of(several)))[3] == f"tiny: page of all studies: {page}"


def test_a_file_names_its_run_if_it_is_of_one_study_that_has_run(
    config: Config, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    ran = config.run_dir
    ran.mkdir(parents=True)
    (ran / "config.yaml").write_text("")
    plain = f"name: {ran.name}\nruns: {ran.parent}\n"
    file.write_text(plain)
    assert Runs.named(file) == Runs.named(ran) == Runs([ran])
    for other in (
        plain + "grid: {seed: [0, 1]}",
        plain + "tasks: {a: {query: q.jsonl}}",
        f"runs: {ran.parent}\nname: other",
        "- 1",
        "a: [",
        "[" * 5000,
    ):
        file.write_text(other)
        assert Runs.named(file) is None
    assert Runs.named(tmp_path / "nowhere.yaml") is None


def test_what_an_earlier_start_has_left_is_told(config: Config) -> None:
    page = config.run_dir / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    done: dict[str, object] = {"event": "done", "seconds": 3.0, "time": 1.7e9 + 3}
    failed = {"event": "failed", "error": "budget: 500 exceeds the pool", "code": 2}
    begun = [start(), done, start(until="select"), failed]
    assert events(config, *begun)[-1] == f"  before   an earlier start has left: page: {page}"
    assert events(config, *begun, start(), done)[-1] == f"  done     in 3 s; page: {page}"
    again = events(config, *begun, start(until="select"), {**done, "until": "report"})
    assert again[-1] == f"  done     in 3 s; page: {page}"
    other = [{**start(), "until": "tomorrow"}, done, {"says": "nothing of an event"}]
    assert "failed" in events(config, *other, start(), failed)[-1]
