"""What the last start of a run did, and how it ended, from its `events.jsonl`. Imports no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psutil

from tis_ray.config import Config, plan, together
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
    starts = [i for i, event in enumerate(events) if event["event"] == "start"]
    if not starts:
        yield f"{path}: holds no start; run `tis-ray run`"
        return
    last = events[starts[-1] :]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last[0]["time"]))
    yield f"{config.name}: start {len(starts)}, {when}: {last[0]['command']}"
    for event in last:
        if event["event"] == "stage":
            how = "reused" if event["reused"] else f"{event['seconds']:.1f} s"
            yield f"  done     {event['stage']:<22} {event['rows']:>8} rows  {how}  {event['note']}"
        elif event["event"] == "cells":
            yield f"  cells    {event['total']} in all, {event['reused']} reused"
        elif event["event"] in ("done", "failed"):
            yield f"  {event['event']:<8} {event.get('error', '')}"
    if last[-1]["event"] not in ("done", "failed"):
        alive = psutil.pid_exists(last[0]["pid"])
        yield "  running" if alive else "  stopped before its end; `tis-ray run` continues it"


def _event(line: str) -> dict[str, Any]:
    """Read one event; the last line of a run that was killed may be half written."""
    try:
        event: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return event
