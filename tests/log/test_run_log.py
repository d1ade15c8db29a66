"""What a run tells people and programs."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from tis_ray.analysis.study_values import Method, StageCost
from tis_ray.log import RunLog, Said, peak_mb


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path / "runs" / "tiny", Console(file=io.StringIO(), width=100))


def said(log: RunLog) -> str:
    assert isinstance(log.console.file, io.StringIO)
    return log.console.file.getvalue()


def record(**changes: object) -> StageCost:
    facts = {
        "stage": "warm-up",
        "kind": "warm-up",
        "artifact": "a/warmup-1",
        "seconds": 2.25,
        "reused": False,
    }
    facts |= {"rows": 40, "quarantined": 0, "device": "cpu", "peak_mb": 10.0}
    return StageCost(**{**facts, **changes})  # type: ignore[arg-type]


def test_each_event_is_one_line_of_json_with_its_time(log: RunLog) -> None:
    before = time.time()
    log.event("start", command="tis-ray run\nnext", pid=1)
    log.event("done", seconds=1.5)
    lines = (log.run_dir / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["start", "done"]
    assert before - 1 <= events[0]["time"] <= time.time() + 1
    assert events[0]["command"] == "tis-ray run\nnext"


def test_a_new_start_keeps_the_earlier_events(log: RunLog) -> None:
    log.event("start")
    RunLog(log.run_dir, log.console).event("start")
    assert len((log.run_dir / "events.jsonl").read_text().splitlines()) == 2


def test_a_finished_stage_is_a_line_an_event_and_a_record(log: RunLog) -> None:
    log.finished(record(quarantined=3), note="continued after epoch 1")
    log.reused(record(), Said(details=["17 no response", "listed in q.parquet"]))
    first, second, *details = said(log).splitlines()
    assert " ".join(first.split()) == (
        "✓ warm-up 40 rows, 3 quarantined 2.2 s continued after epoch 1"
    )
    assert " ".join(second.split()) == "✓ warm-up 40 rows reused"
    assert details == ["    17 no response", "    listed in q.parquet"]
    assert [stage.quarantined for stage in log.stages] == [3, 0]
    event = json.loads((log.run_dir / "events.jsonl").read_text().splitlines()[0])
    assert (event["event"], event["stage"], event["note"]) == (
        "stage",
        "warm-up",
        "continued after epoch 1",
    )


def test_a_stage_is_needed_by_all_in_whose_blocks_it_ended(log: RunLog) -> None:
    log.finished(record())
    less, bm25 = Method("less", "uot"), Method("bm25")
    with log.needed_by(less):
        with log.needed_by(bm25):
            log.finished(record())
        log.finished(record())
    with pytest.raises(KeyError), log.needed_by(Method("rds")):
        raise KeyError
    log.finished(record())
    assert [s.needed_by for s in log.stages] == [(), (less, bm25), (less,), ()]
    last = json.loads((log.run_dir / "events.jsonl").read_text().splitlines()[1])
    assert last["needed_by"] == [
        {"representation": "less", "selector": "uot"},
        {"representation": "bm25", "selector": None},
    ]


def test_peak_memory_is_in_megabytes() -> None:
    assert 20 < peak_mb() < 1e6


def test_a_start_that_has_ended_says_no_more(log: RunLog) -> None:
    log.event("start")
    log.event("stopped", by="Ctrl-C")
    log.event("done")
    lines = (log.run_dir / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["start", "stopped"]


def test_a_traceback_is_added_to_the_log_of_the_run(log: RunLog) -> None:
    for text in ("first", "second"):
        try:
            raise KeyError(text)
        except KeyError as error:
            path = log.traceback(error)
    assert path == log.run_dir / "run.log"
    kept = path.read_text()
    assert kept.index("KeyError: 'first'") < kept.index("KeyError: 'second'")
    assert kept.count("Traceback") == 2


def test_what_is_said_is_never_read_as_markup(log: RunLog) -> None:
    """An end mark such as [/end], or a folder in brackets, is text."""
    log.say(("the end mark '[/end]' is no token", "yellow"), " in data[v2]/rows")
    log.finished(record(), note="[/x]", details=["[b]"])
    assert "the end mark '[/end]' is no token in data[v2]/rows" in said(log)
    assert "[/x]" in said(log)
    assert "    [b]" in said(log)
