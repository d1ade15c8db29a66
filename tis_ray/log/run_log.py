"""The log of one run: lines for people, events for programs, and the costs of its stages."""

from __future__ import annotations

import json
import resource
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from threading import Event
from typing import Any

from rich.console import Console
from rich.text import Text

from tis_ray.analysis.study_values import Kind, Method, StageCost
from tis_ray.background import in_background
from tis_ray.log.activity import Activity
from tis_ray.log.json_lines import lines_about, stderr_console
from tis_ray.log.sign_of_life import SignOfLife
from tis_ray.stopping import unless_stopped
from tis_ray.storage import Place, pace
from tis_ray.store import Artifact, append_line, read_parquet

ENDS = ("done", "failed", "stopped")
"""The events after which a start says no more."""
RUN_LOG = "run.log"
"""Tracebacks, and what libraries written in C++ say while a run goes on."""
PROGRESS_SECONDS = 5.0
"""The least time between two events that say how far a stage is; there is one at each tenth of it at most."""


@dataclass(frozen=True)
class Said:
    """What is said of a stage beside its numbers: on its line, and in lines below."""

    note: str = ""
    details: list[str] = field(default_factory=list)


@dataclass
class RunLog:
    """Console and event file of one run."""

    run_dir: Place
    console: Console = field(default_factory=stderr_console)
    stages: list[StageCost] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    """What was said of each of `stages` beside its numbers."""
    hears: list[Callable[[str, dict[str, Any]], None]] = field(default_factory=list)
    """Who is told of each event: its kind and its facts."""
    watches: list[Callable[[Activity], None]] = field(default_factory=list)
    """Who is told, twice a second, how far what goes on is."""
    _needed_by: tuple[Method, ...] = field(default=(), init=False)
    _over: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._one = threading.Lock()
        self._told: tuple[Activity | None, int, float] = (None, 0, 0.0)
        self._life = SignOfLife(self.console, self.run_dir, self._goes_on)

    @property
    def study(self) -> str:
        """The name of the run, by which lines and metrics call it."""
        return self.run_dir.name

    @property
    def stage(self) -> str | None:
        """What goes on."""
        activity = self._life.current()
        return activity.label if activity else None

    def event(self, kind: str, /, **facts: Any) -> None:
        """Append one event; each line is one JSON object with `time` in seconds since the epoch.

        What a signal stops is not done: "done" that comes after it is not said any more.
        """
        with unless_stopped() if kind == "done" else nullcontext(), self._one:
            if self._over:
                return
            self._over = kind in ENDS
            line = json.dumps({"time": round(time.time(), 3), "event": kind, **facts})
            append_line(self.run_dir / "events.jsonl", line)
        for hear in self.hears:
            hear(kind, facts)

    def _goes_on(self, activity: Activity) -> None:
        """Tell who watches; record how far it is at each tenth."""
        for watch in self.watches:
            watch(activity)
        if not activity.total:
            return
        tenth = 10 * activity.done // activity.total
        before, last, when = self._told
        if activity is not before:
            self._told = activity, 0, time.monotonic()
        elif tenth > last and time.monotonic() - when > PROGRESS_SECONDS:
            self._told = activity, tenth, time.monotonic()
            self.event("progress", stage=activity.label, **activity.numbers())

    def say(self, *parts: str | tuple[str, str], stage: str | None = None) -> None:
        """Print one line of texts, or (text, style). Nothing in a text is read as markup.

        stage: what it is about, where that is not what goes on.
        """
        self._life.last_line = time.monotonic()
        with lines_about(self.study, stage or self.stage):
            self.console.print(Text.assemble(*parts), highlight=False, soft_wrap=True)

    @contextmanager
    def needed_by(self, method: Method) -> Iterator[None]:
        """Record what ends inside as needed by a representation or a method; these may nest."""
        outside = self._needed_by
        self._needed_by = (*outside, method)
        try:
            yield
        finally:
            self._needed_by = outside

    def finished(self, record: StageCost, note: str = "", details: Sequence[str] = ()) -> None:
        """Record a stage and print its line, and below it the lines of `details`."""
        self._tell(replace(record, needed_by=self._needed_by), Said(note, [*details]))

    def reused(self, record: StageCost, said: Said) -> None:
        """Record a stage of an earlier start, and print its lines."""
        self._tell(replace(record, reused=True), said)

    def _tell(self, record: StageCost, said: Said) -> None:
        self.stages.append(record)
        self.said.append(said)
        self.event("stage", **record.to_json(), **asdict(said))
        how = "reused" if record.reused else f"{record.seconds:.1f} s"
        lost = f", {record.quarantined} quarantined" if record.quarantined else ""
        note = f"  {said.note}" if said.note else ""
        stage = f" {record.stage:<22} {record.rows:>8} rows{lost}  {how}"
        self.say(("✓", "green"), stage, (note, "dim"), stage=record.stage)
        for line in said.details:
            self.say((f"    {line}", "dim"), stage=record.stage)

    def made(
        self, kind: Kind, stage: str, artifact: Artifact, reused: bool, note: str = ""
    ) -> None:
        """Record the stage that left a complete artifact; its manifest says what it cost."""
        manifest = artifact.manifest()
        self.finished(
            StageCost(
                stage=stage,
                kind=kind,
                artifact=str(artifact.path),
                seconds=manifest.seconds,
                reused=reused,
                rows=manifest.rows,
                quarantined=manifest.quarantined,
                device=manifest.device,
                peak_mb=manifest.peak_mb,
                computed=manifest.details.get("computed"),
            ),
            note,
            list(_quarantined(artifact)) if manifest.quarantined else (),
        )

    def waiting(self, label: str, state: str = "") -> AbstractContextManager[Activity]:
        """Show that the block goes on, and for how long; `state` says what it waits for."""
        return self._life.shown(Activity(label, state=state))

    @contextmanager
    def progress(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Yield `advance(n)`: units that are done."""
        with self._life.shown(Activity(label, unit, total)) as activity:
            yield activity.advance

    @contextmanager
    def watching(
        self, activity: Activity, count: Callable[[Activity], None], often: float = 0.5
    ) -> Iterator[None]:
        """Show progress of work done elsewhere: `count` is called every `often` seconds, and notes how far it is."""

        def watch(stop: Event) -> None:
            while not stop.wait(pace(self.run_dir, often)):
                count(activity)

        with self._life.shown(activity), in_background(watch):
            yield

    def traceback(self, error: BaseException) -> Place:
        """Add an error with its traceback to `run.log`; return that file."""
        path = self.run_dir / RUN_LOG
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        append_line(path, f"{when}\n{''.join(traceback.format_exception(error))}")
        return path

    def ended(self) -> None:
        """Take the sign of life away; the run is over, or somebody ends it."""
        self._life.end()


def _quarantined(artifact: Artifact) -> Iterator[str]:
    """Yield why an artifact could not use rows, and where they are listed."""
    path = artifact / "quarantine.parquet"
    if path.exists():
        counts = Counter(read_parquet(path, ["reason"])["reason"].to_pylist()).most_common()
        yield "; ".join(f"{count} {str(reason).replace('_', ' ')}" for reason, count in counts)
        yield f"listed in {path}"


def peak_mb() -> float:
    """Return this process's largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
