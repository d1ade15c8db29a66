"""Showing that a run is alive: a line that moves on a terminal, lines now and then elsewhere, and `live.json`.

A log file is not to be filled: while one thing goes on a line comes every 5 seconds for two minutes, and
every 30 after that. On a terminal the line moves four times a second.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from threading import Event

from rich.console import Console, RenderableType
from rich.live import Live as MovingLine
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tis_ray.background import in_background
from tis_ray.log.activity import Activity
from tis_ray.log.json_lines import lines_about
from tis_ray.storage import Place, pace
from tis_ray.store import write_json

LIVE = "live.json"
TICK = 0.5
OFTEN, SELDOM, NEW = 4.5, 30.0, 120.0
"""Seconds between two lines while something is new, after that, and how long it is new."""
BEAT = 2.0
"""Seconds between two writes of `live.json`."""


@dataclass(frozen=True)
class Live:
    """What `live.json` holds while a run goes on.

    since, now: seconds since the epoch at which the activity began, and of this sign of life.
    rate: in `rate_unit` a second. left: seconds. host, pid: where the run is.
    """

    stage: str
    state: str
    done: int
    total: int
    unit: str
    rate: float | None
    rate_unit: str
    left: float | None
    since: float
    now: float
    host: str
    pid: int
    words: str


class SignOfLife:
    """Shows the innermost of the activities that go on, in one place.

    folder: where `live.json` is kept; None for what is no run. tell: is told twice a second, and once
        more when it ends, of the activity that goes on.
    """

    def __init__(
        self,
        console: Console,
        folder: Place | None = None,
        tell: Callable[[Activity], None] = lambda activity: None,
    ) -> None:
        self.console, self.folder, self.tell = console, folder, tell
        self.activities: list[Activity] = []
        self.last_line = time.monotonic()
        self._running: ExitStack | None = None
        self._beaten = 0.0
        self._news = ("", "")
        self._spinner = Spinner("dots")

    @contextmanager
    def shown(self, activity: Activity) -> Iterator[Activity]:
        """Show an activity while the block runs; then what goes on around it is shown again."""
        self.activities.append(activity)
        if len(self.activities) == 1:
            self._begin()
        try:
            yield activity
        finally:
            self.activities.remove(activity)
            with suppress(OSError):
                self.tell(activity)
            if self.activities:
                self.activities[-1].since = time.time()  # it is waited for anew
            else:
                self.end()

    def end(self) -> None:
        """Show no more: the line goes, and so does `live.json`."""
        running, self._running = self._running, None
        if running is not None:
            running.close()
        if self.folder is not None:
            with suppress(OSError):
                (self.folder / LIVE).unlink(missing_ok=True)

    def _begin(self) -> None:
        self._running = ExitStack()
        if self.console.is_terminal or self.console.is_jupyter:
            line = MovingLine(
                console=self.console,
                get_renderable=self._line,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=self.console.file is sys.stderr,
                redirect_stderr=self.console.file is sys.stderr,
            )
            self._running.enter_context(line)
        self._running.enter_context(in_background(self._tick))

    def _tick(self, stop: Event) -> None:
        while not stop.wait(TICK):
            activity = self.current()
            if activity is None:
                continue
            with suppress(OSError):  # a full disk ends the work, not its sign of life
                self.tell(activity)
            now = time.monotonic()
            news = activity.label, activity.state
            if self.folder is not None and (
                now - self._beaten > pace(self.folder, BEAT) or news != self._news
            ):
                self._beaten, self._news = now, news
                with suppress(OSError):
                    write_json(self.folder / LIVE, asdict(_live(activity)))
            due = OFTEN if activity.seconds < NEW else SELDOM
            if not self._moves and now - self.last_line > due:
                self.last_line = now
                line = f"  {activity.label}: {activity.words()}"
                with lines_about(self.folder.name if self.folder else None, activity.label):
                    self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    @property
    def _moves(self) -> bool:
        return self.console.is_terminal or self.console.is_jupyter

    def current(self) -> Activity | None:
        """Return the innermost activity."""
        return next(reversed(self.activities.copy()), None)

    def _line(self) -> RenderableType:
        activity = self.current()
        if activity is None:
            return ""
        cells: list[RenderableType] = [self._spinner, Text(f"{activity.label:<22}")]
        if activity.total and activity.done < activity.total:
            share = activity.parts / activity.parts_total if activity.parts_total else None
            done = activity.done if share is None else share * activity.total
            cells.append(ProgressBar(activity.total, done, width=24))
        cells.append(Text(activity.words(), style="dim", no_wrap=True, overflow="ellipsis"))
        line = Table.grid(padding=(0, 1))
        line.add_row(*cells)
        return line


def _live(activity: Activity) -> Live:
    return Live(
        stage=activity.label,
        state=activity.state,
        **activity.numbers(),
        since=activity.since,
        now=time.time(),
        host=socket.gethostname(),
        pid=os.getpid(),
        words=activity.words(),
    )
