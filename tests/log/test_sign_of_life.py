"""A run shows that it is alive: on a terminal, in a log file, and to other machines."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from tis_ray.log import Activity, RunLog, sign_of_life
from tis_ray.log.sign_of_life import LIVE, SignOfLife


@pytest.fixture
def life(tmp_path: Path) -> SignOfLife:
    return SignOfLife(Console(file=io.StringIO(), width=100), tmp_path)


def said(life: SignOfLife) -> list[str]:
    assert isinstance(life.console.file, io.StringIO)
    return life.console.file.getvalue().splitlines()


def until(reached) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_log_file_gets_a_line_every_few_seconds(
    life: SignOfLife, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_of_life, "OFTEN", 0.3)
    monkeypatch.setattr(sign_of_life, "TICK", 0.05)
    with life.shown(Activity("tiny", state="starting Ray")):
        until(lambda: len(said(life)) > 1)
    assert all(line.startswith("  tiny: starting Ray (") for line in said(life))


def test_what_does_not_take_long_says_nothing_in_a_log_file(life: SignOfLife) -> None:
    with life.shown(Activity("tiny")):
        time.sleep(0.7)
    assert said(life) == []


def test_what_goes_on_lies_beside_the_run_and_goes_with_it(life: SignOfLife) -> None:
    live = life.folder / LIVE
    with life.shown(Activity("features less", "shards", 9, "waiting")):
        until(live.exists)
        found = json.loads(live.read_text())
        assert (found["stage"], found["state"]) == ("features less", "waiting")
        assert (found["done"], found["total"], found["unit"]) == (0, 9, "shards")
        assert found["pid"] == os.getpid()
        assert abs(found["now"] - time.time()) < 5
    assert not live.exists()


def test_the_innermost_is_shown_and_then_what_is_around_it_anew(life: SignOfLife) -> None:
    live = life.folder / LIVE

    def stage() -> str:
        return json.loads(live.read_text())["stage"] if live.exists() else ""

    outer = Activity("outer", since=time.time() - 100)
    with life.shown(outer):
        with life.shown(Activity("inner")):
            until(lambda: stage() == "inner")
        assert outer.seconds < 5
        until(lambda: stage() == "outer")


def test_work_elsewhere_is_watched_until_it_ends(tmp_path: Path) -> None:
    log = RunLog(tmp_path, Console(file=io.StringIO(), width=100))
    training = Activity("warm-up", "steps")
    with log.watching(training, lambda activity: activity.count(6, 10), often=0.05):
        until(lambda: (training.done, training.total) == (6, 10))
    with pytest.raises(RuntimeError, match="lost"), log.watching(training, lambda _: None):
        raise RuntimeError("lost")


def test_a_terminal_has_a_line_that_moves_and_goes(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    life = SignOfLife(console, tmp_path)
    with life.shown(Activity("features less", "shards", 9, "waiting for a worker")):
        time.sleep(1.0)
        drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert drawn.count("waiting for a worker (") >= 3
    assert "\x1b[?25h" in console.file.getvalue()  # type: ignore[attr-defined]  # the cursor is back
