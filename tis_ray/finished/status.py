"""What the last start of a run did, and how it ended, from its `events.jsonl`. Imports no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psutil

from tis_ray.config import Config, plan, together
from tis_ray.errors import InputError
from tis_ray.store import read_lines


def status_lines(config: Config) -> Iterator[str]:
    """Yield what is done, running or failed in each study of a file, and whether their page is there."""
    for study in plan(config).values():
        yield from _study_lines(study)
    if (folder := together(config)) is not None:
        page = folder / "report" / "index.html"
        yield f"{folder.name}: " + (f"page of all studies: {page}" if page.exists() else _NO_PAGE)


_NO_PAGE = "no page of all studies yet; `tis-ray run` draws it"


def _study_lines(config: Config) -> Iterator[str]:
    """Yield what the last start of a run did, stage by stage, and how it ended."""
    path = config.run_dir / "events.jsonl"
    if not path.exists():
        yield f"{config.run_dir}: not started; run `tis-ray run`"
        return
    events = [event for event in map(_event, read_lines(path)) if event]
    starts = [i for i, event in enumerate(events) if event.get("event") == "start"]
    if not starts:
        yield f"{path}: holds no start; run `tis-ray run`"
        return
    last = events[starts[-1] :]
    try:
        yield from _start_lines(config, last, len(starts))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: was written by another version of tis_ray ({type(error).__name__}: {error}); run "
            "`tis-ray run` again (finished work is reused)"
        ) from None


def _start_lines(config: Config, events: list[dict[str, Any]], starts: int) -> Iterator[str]:
    start, last = events[0], events[-1]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start["time"]))
    yield f"{config.name}: start {starts}, {when}: {start['command']}"
    for event in events:
        if event["event"] == "stage":
            how = "reused" if event["reused"] else f"{event['seconds']:.1f} s"
            yield f"  done     {event['stage']:<22} {event['rows']:>8} rows  {how}  {event['note']}"
        elif event["event"] == "cells":
            yield f"  cells    {event['total']} in all, {event['reused']} reused"
        elif event["event"] == "failed":
            yield f"  failed   {event['error']}"
        elif event["event"] == "done":
            yield f"  done     in {event['seconds']:.0f} s; {_left(config, start['until'])}"
    if last["event"] not in ("done", "failed"):
        alive = psutil.pid_exists(start["pid"])
        yield "  running" if alive else "  stopped before its end; `tis-ray run` continues it"


def _left(config: Config, until: str) -> str:
    """Return what a start that ended has left, and where."""
    page = config.run_dir / "report" / "index.html"
    if until == "report":
        return f"page: {page}" if page.exists() else "its page is gone; `tis-ray report` draws it"
    if until == "evaluate":
        return "models are trained and evaluated; `tis-ray run` draws the page"
    folder = {"featurize": "features", "select": "orderings"}[until]
    return f"{folder}: {config.run_dir / folder}"


def _event(line: str) -> dict[str, Any]:
    """Read one event; the last line of a run that was killed may be half written."""
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}
