"""What a run tells people and programs."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from tis_ray.analysis.study_values import Method, StageCost
from tis_ray.log import RunLog, peak_mb


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
    log.finished(record(reused=True))
    first, second = said(log).splitlines()
    assert " ".join(first.split()) == (
        "✓ warm-up 40 rows, 3 quarantined 2.2 s continued after epoch 1"
    )
    assert " ".join(second.split()) == "✓ warm-up 40 rows reused"
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


def test_progress_without_a_terminal_is_at_most_a_line_for_each_tenth(log: RunLog) -> None:
    with log.progress("features", 200, "rows") as advance:
        for _ in range(200):
            advance()
    lines = said(log).splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("  features: 20 of 200 rows, about ")


def test_watching_shows_work_done_elsewhere_and_ends_with_it(log: RunLog) -> None:
    counts = iter([(0, 0), (0, 10), (0, 10), (6, 10)])
    state = (0, 0)

    def count() -> tuple[int, int]:
        nonlocal state
        state = next(counts, state)
        return state

    with log.watching("warm-up", "steps", count):
        deadline = time.monotonic() + 20
        while "6 of 10 steps" not in said(log):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert said(log).count("\n") == 1


def test_watching_passes_errors_on(log: RunLog) -> None:
    with (
        pytest.raises(RuntimeError, match="lost"),
        log.watching("warm-up", "steps", lambda: (0, 0)),
    ):
        raise RuntimeError("lost")


def test_peak_memory_is_in_megabytes() -> None:
    assert 20 < peak_mb() < 1e6
