"""How far a run is: what its last start did, what goes on now, and how it ended. From its files alone.

`events.jsonl` has what has happened, `live.json` what goes on, with a sign of life every two seconds; so
the answer is the same on every machine that sees the folder.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tis_ray.errors import InputError
from tis_ray.log.activity import duration
from tis_ray.log.sign_of_life import LIVE, Live
from tis_ray.stopping import STOPS
from tis_ray.storage import Place, place
from tis_ray.store import find_json, read_lines, read_text
from tis_ray.store.document import read_document

if TYPE_CHECKING:
    from tis_ray.config import Config

SILENT = 30.0
"""Seconds without a sign of life after which a run on another machine is taken for lost."""

State = Literal["not started", "running", "done", "failed", "stopped", "lost"]


@dataclass
class Stage:
    """A stage that has ended, as its event has it; `details` say what is to know of it."""

    stage: str
    rows: int
    quarantined: int
    seconds: float
    reused: bool
    note: str
    artifact: str
    details: list[str]


@dataclass
class Status:
    """A study: `tis-ray status --json` prints these fields.

    starts: how often it was started. started, ended: of the last start, seconds since the epoch.
    until: how far that start goes. now: what goes on, with its sign of life; only of a run that runs.
    why: what failed, or what stopped it. code: the exit code that it ended with. page: the study's page, if it
    is there. restarts: workers that were lost and started again. logs: of the workers that say why it failed.
    """

    name: str
    folder: str
    state: State
    starts: int = 0
    started: float | None = None
    ended: float | None = None
    command: str = ""
    until: str = ""
    host: str = ""
    pid: int = 0
    stages: list[Stage] = field(default_factory=list)
    cells: dict[str, int] | None = None
    now: Live | None = None
    why: str | None = None
    code: int | None = None
    restarts: int = 0
    logs: list[str] = field(default_factory=list)
    page: str | None = None
    before: str | None = None
    """How far an earlier start went, where one has ended well: of all that went furthest."""


@dataclass(frozen=True)
class Runs:
    """The run folders of a file's studies, and that of the page of all; None where it is one study."""

    folders: list[Place]
    together: Place | None = None

    @classmethod
    def of(cls, config: Config) -> Runs:
        """Return those of a config. Raises InputError for a grid that makes no valid studies."""
        from tis_ray.config import plan, together  # a second, which a run's folder does not need

        return cls([study.run_dir for study in plan(config).values()], together(config))

    @classmethod
    def named(cls, config: Place) -> Runs | None:
        """Return the run of a run's folder, or of a file of one study that has run, by its own words.

        None where only the whole config can say which runs there are, or what is wrong with it.
        """
        if (config / "config.yaml").is_file():
            return cls([config.resolve()])
        try:
            raw = read_document(read_text(config))
            if not isinstance(raw, dict) or "tasks" in raw or "grid" in raw:
                return None
            folder = place(str(raw.get("runs", "runs"))).absolute() / str(raw.get("name", "study"))
            return cls([folder]) if (folder / "config.yaml").is_file() else None
        except (OSError, RecursionError, ValueError):
            return None

    @property
    def page(self) -> Place | None:
        """The page of all studies, whether it is there or not."""
        return self.together and self.together / "report" / "index.html"


def statuses(runs: Runs) -> list[Status]:
    """Return the status of each study. Raises InputError for files of another version."""
    return [_status(folder) for folder in runs.folders]


def status_json(runs: Runs, found: list[Status] | None = None) -> str:
    """Return the same as one JSON object: `studies`, and `page`, that of all where there are several."""
    page = runs.page
    studies = [asdict(status) for status in found or statuses(runs)]
    return json.dumps({"studies": studies, "page": str(page) if page and page.exists() else None})


def status_lines(runs: Runs, found: list[Status] | None = None) -> Iterator[str]:
    """Yield what is done, running or failed in each study, and whether their page is there."""
    for status in found or statuses(runs):
        yield from _lines(status)
    if (page := runs.page) is not None:
        name = page.parent.parent.name
        yield f"{name}: " + (f"page of all studies: {page}" if page.exists() else _NO_PAGE)


_NO_PAGE = "no page of all studies yet; `tis-ray run` draws it"


def _status(folder: Place) -> Status:
    page = folder / "report" / "index.html"
    status = Status(
        folder.name, str(folder), "not started", page=str(page) if page.exists() else None
    )
    events = [event for event in map(_event, read_lines(folder / "events.jsonl")) if event]
    starts = [i for i, event in enumerate(events) if event.get("event") == "start"]
    if not starts:
        return status
    status.starts = len(starts)
    try:
        status.before = _before(events[: starts[-1]])
        for event in events[starts[-1] :]:
            _take(status, event)
        if status.state == "running":
            status.now = _live(folder, status.pid)
            if not _lives(status, events[-1]["time"]):
                status.state = "lost"
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / 'events.jsonl'}: was written by another version of tis_ray "
            f"({type(error).__name__}: {error}); run `tis-ray run` again (finished work is reused)"
        ) from None
    return status


def _before(events: list[dict[str, Any]]) -> str | None:
    """Return the furthest step that these starts have ended with."""
    until, ended = None, []
    for event in events:
        if event.get("event") == "start":
            until = event.get("until")
        if event.get("event") == "done":
            ended.append(event.get("until", until))
    known = [step for step in _LEFT if step in ended]  # another version may have had others
    return known[-1] if known else None


def _take(status: Status, event: dict[str, Any]) -> None:
    """Take an event of the last start into account."""
    match event["event"]:
        case "start":
            status.state, status.started = "running", event["time"]
            status.command, status.until = event["command"], event["until"]
            status.pid, status.host = event["pid"], event.get("host", "")
            if event["until"] not in _LEFT:
                raise ValueError(f"until {event['until']!r}")
        case "stage":
            names = ("stage", "rows", "quarantined", "seconds", "reused", "note", "artifact")
            found = {name: event[name] for name in names}
            status.stages.append(Stage(**found, details=event.get("details", [])))
        case "cells":
            status.cells = {name: event[name] for name in ("total", "reused", "to_train")}
        case "done":
            status.state, status.ended, status.code = "done", event["time"], 0
            status.until = event.get("until", status.until)  # more was there than was asked for
        case "failed":
            status.state, status.why, status.ended = "failed", event["error"], event["time"]
            status.code = event.get("code", 1)
        case "stopped":
            status.state, status.why, status.ended = "stopped", event["by"], event["time"]
            status.code = next((each.code for each in STOPS.values() if each.by == event["by"]), 1)
        case "restart":
            status.restarts += 1
        case "failure":
            status.logs = [*dict.fromkeys([*status.logs, *event["logs"]])]


def _live(folder: Place, pid: int) -> Live | None:
    """Return the sign of life of this start; that of an earlier one lies there until it is replaced."""
    found = find_json(folder / LIVE)
    live = Live(**found) if found else None
    return live if live is not None and live.pid == pid else None


def _lives(status: Status, last_event: float) -> bool:
    """Return whether a run without an end goes on; a process is looked for on its own machine only."""
    if status.host in ("", socket.gethostname()):
        import psutil

        return psutil.pid_exists(status.pid)
    return time.time() - (status.now.now if status.now else last_event) < SILENT


def _lines(status: Status) -> Iterator[str]:
    if status.state == "not started":
        yield f"{status.folder}: not started; `tis-ray run`, or `study.run()`, starts it"
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.started))
    yield f"{status.name}: start {status.starts}, {when}: {status.command}"
    for stage in status.stages:
        how = "reused" if stage.reused else f"{stage.seconds:.1f} s"
        lost = f", {stage.quarantined} quarantined" if stage.quarantined else ""
        yield f"  done     {stage.stage:<22} {stage.rows:>8} rows{lost}  {how}  {stage.note}".rstrip()
        yield from (f"           {line}" for line in stage.details)
    if status.cells is not None:
        yield f"  cells    {status.cells['total']} in all, {status.cells['reused']} reused"
    if status.restarts:
        yield f"  restarts {status.restarts} worker(s) were lost and started again"
    yield _last_line(status)
    if status.state in ("failed", "lost"):
        yield from (f"           log of a worker: {log}" for log in status.logs)
    if status.before is not None and _went_further(status):
        yield f"  before   an earlier start has left: {_left_at(status.before, status)}"


def _last_line(status: Status) -> str:
    match status.state:
        case "done":
            return f"  done     in {_seconds(status):.0f} s; {_left(status)}"
        case "failed":
            return f"  failed   {status.why}"
        case "stopped":
            return f"  stopped  by {status.why} after {duration(_seconds(status))}; {_AGAIN}"
        case "lost":
            seen = status.now.now if status.now else None
            when = time.strftime(" since %Y-%m-%d %H:%M:%S", time.localtime(seen)) if seen else ""
            return f"  lost     it stopped before its end (no sign of life{when}); {_AGAIN}"
    now = status.now
    where = f" on {status.host}" if status.host not in ("", socket.gethostname()) else ""
    if now is None:
        return f"  waiting  nothing has begun here yet{where}; studies of a file run one after the other"
    words = _words(now)
    return f"  running  {now.stage}: {words}{where}"


_AGAIN = "the same command continues"


def _words(now: Live) -> str:
    """Return what goes on as the run says it, with the age of its sign of life where that is old."""
    age = time.time() - now.now
    return now.words + (f" ({age:.0f} s ago)" if age > SILENT / 2 else "")


def _seconds(status: Status) -> float:
    return (status.ended or 0.0) - (status.started or 0.0)


_LEFT = {
    "featurize": "features: {}/features",
    "select": "orderings: {}/orderings",
    "evaluate": "models are trained and evaluated; `tis-ray run` draws the page",
    "report": "its page is gone; `tis-ray report` draws it",
}
"""What a start that ended has left, and where, by how far it went."""


def _left(status: Status) -> str:
    return _left_at(status.until, status)


def _left_at(step: str, status: Status) -> str:
    if step == "report" and status.page:
        return f"page: {status.page}"
    return _LEFT[step].format(status.folder)


def _went_further(status: Status) -> bool:
    """Whether an earlier start has left what the last one has not, and does not make just now."""
    steps = [*_LEFT]
    if status.state == "done":
        return steps.index(str(status.before)) > steps.index(status.until)
    return status.state in ("failed", "stopped", "lost")


def _event(line: str) -> dict[str, Any]:
    """Read one event; the last line of a run that was killed may be half written."""
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}
