"""Following a run until it ends, from any machine that sees its folder: `tis-ray status --follow`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tis_ray.finished.status import Runs, Status, status_json, status_lines, statuses
from tis_ray.storage import pace

OFTEN, SELDOM = 2.0, 30.0
"""Seconds between two looks, and between two lines that say how far one stage is where lines stay."""
LOST = 1
"""The exit code of a run that gives no sign of life any more."""


def follow_lines(runs: Runs, console: Console) -> int:
    """Show how far a run is until it ends; return the exit code that says how it ended.

    On a terminal the lines are drawn anew; elsewhere each is printed once, and how far a stage is now and then.
    """
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as screen:
            return _follow(runs, lambda found: screen.update(_text(runs, found), refresh=True))
    printed: set[str] = set()
    last = 0.0

    def show(found: list[Status]) -> None:
        nonlocal last
        for line in status_lines(runs, found):
            moves = line.startswith("  running")
            if line not in printed and not (moves and time.monotonic() - last < SELDOM):
                printed.add(line)
                last = time.monotonic() if moves else last
                console.print(line, highlight=False, markup=False, soft_wrap=True)

    return _follow(runs, show)


def follow_json(runs: Runs, say: Callable[[str], None]) -> int:
    """The same with a JSON object at each change: that of `status --json`."""
    before: list[dict[str, Any]] = []

    def show(found: list[Status]) -> None:
        nonlocal before
        now = [_lasting(status) for status in found]
        if now != before:
            before = now
            say(status_json(runs, found))

    return _follow(runs, show)


def _follow(runs: Runs, show: Callable[[list[Status]], None]) -> int:
    while True:
        found = statuses(runs)
        show(found)
        code = _ended(found)
        if code is not None:
            return code
        time.sleep(pace(runs.folders[0], OFTEN))


def _ended(found: list[Status]) -> int | None:
    """Return the exit code of the run that these studies are of; None while it goes on, or has not begun.

    The studies of a file are started together. One that failed lets the others go on; a stop ends all.
    """
    begun = [status for status in found if status.state != "not started"]
    codes = [LOST if status.state == "lost" else status.code for status in begun]
    stopped = [status for status in begun if status.state in ("stopped", "lost")]
    if not begun or (not stopped and any(code is None for code in codes)):
        return None
    return max(code for code in codes if code is not None)


def _lasting(status: Status) -> dict[str, Any]:
    """Return what is told of a study, without what changes with the clock alone."""
    facts = asdict(status)
    if facts["now"] is not None:
        facts["now"] = {name: facts["now"][name] for name in ("stage", "state", "done", "total")}
    return facts


def _text(runs: Runs, found: list[Status]) -> Text:
    return Text("\n".join(status_lines(runs, found)))
