"""What a run reports: lines and a progress bar for people, `events.jsonl` for programs."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tis_ray.analysis.study_values import Kind, Method, StageCost
from tis_ray.background import in_background
from tis_ray.store import Artifact, append_line


@dataclass
class RunLog:
    """Console and event file of one run."""

    run_dir: Path
    console: Console = field(default_factory=lambda: Console(stderr=True))
    stages: list[StageCost] = field(default_factory=list)
    _needed_by: tuple[Method, ...] = field(default=(), init=False)

    def event(self, kind: str, /, **facts: Any) -> None:
        """Append one event; each line is one JSON object with `time` in seconds since the epoch."""
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **facts})
        append_line(self.run_dir / "events.jsonl", line)

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def needed_by(self, method: Method) -> Iterator[None]:
        """Record what ends inside as needed by a representation or a method; these may nest."""
        outside = self._needed_by
        self._needed_by = (*outside, method)
        try:
            yield
        finally:
            self._needed_by = outside

    def finished(self, record: StageCost, note: str = "") -> None:
        """Record a stage and print its line."""
        record = replace(record, needed_by=self._needed_by)
        self.stages.append(record)
        self.event("stage", **record.to_json(), note=note)
        how = "reused" if record.reused else f"{record.seconds:.1f} s"
        lost = f", {record.quarantined} quarantined" if record.quarantined else ""
        detail = f"  [dim]{note}[/dim]" if note else ""
        self.say(f"[green]✓[/green] {record.stage:<22} {record.rows:>8} rows{lost}  {how}{detail}")

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
        )

    @contextmanager
    def progress(self, label: str, total: int, unit: str) -> Iterator[Any]:
        """Yield `advance(n)`. A bar on a terminal; elsewhere a line at each tenth."""
        if self.console.is_terminal:
            columns = (
                TextColumn("  {task.description:<22}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.console, transient=True) as bar:
                task = bar.add_task(label, total=total)
                yield lambda n=1: bar.advance(task, n)
            return
        done, start, last_tenth = 0, time.monotonic(), 0

        def advance(n: int = 1) -> None:
            nonlocal done, last_tenth
            done += n
            tenth = 10 * done // max(total, 1)
            if tenth > last_tenth and done < total:
                last_tenth = tenth
                spent = time.monotonic() - start
                left = spent / done * (total - done)
                self.say(f"  {label}: {done} of {total} {unit}, about {left:.0f} s left")

        yield advance

    def watching(
        self, label: str, unit: str, count: Callable[[], tuple[int, int]]
    ) -> AbstractContextManager[None]:
        """Show progress of work done elsewhere: `count()` returns (done, total) and is called twice a second.

        The total may be 0 until it is known.
        """

        def watch(stop: Event) -> None:
            while not stop.wait(0.5) and not count()[1]:
                pass
            shown, total = 0, count()[1]
            if stop.is_set() or not total:
                return
            with self.progress(label, total, unit) as advance:
                while not stop.wait(0.5):
                    done = count()[0]
                    if done > shown:
                        advance(done - shown)
                        shown = done

        return in_background(watch)


def peak_mb() -> float:
    """Return this process's largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
