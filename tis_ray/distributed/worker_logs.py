"""Logs of workers in the run's folder: what they print, and their tracebacks, outlive the cluster.

Ray keeps what a worker prints in files of its node, which vanish with it. Each worker copies its own to
`runs/NAME/logs/NODE-STAGE-PID.log` while it works: the beginning and the end, so that a log stays small. What
one has said last, before it was lost, is copied by a task on its node (`finish_logs`).
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray.exceptions import RayError

from tis_ray.background import in_background
from tis_ray.distributed.every_node import alive, ask
from tis_ray.log.json_lines import is_json_line, json_line
from tis_ray.storage import Place, listed, pace
from tis_ray.store import read_text, write_text

LOGS = "logs"
HEAD, TAIL = 50_000, 200_000
"""How many bytes of what was printed are kept: of its beginning, and of its end."""
OFTEN = 2.0
"""Seconds between two copies."""
MOST = 5
"""How many logs are named after a failure."""
PATIENCE = 20.0
"""Seconds in which the nodes have to copy what lost workers have said."""
BEGINS, DONE = "begins", "is done"
"""Last words of our own lines."""
TRACEBACK = "Traceback (most recent call last)"
_OF_RAY = (":job_id:", ":actor_name:", ":task_name:")
"""Lines that Ray writes for itself."""


@dataclass(frozen=True)
class Work:
    """What a worker works for: a stage of a study, the folder of its run, and whether its lines are JSON."""

    study: str
    stage: str
    folder: Place
    as_json: bool

    @property
    def name(self) -> str:
        """The stage as it is in the names of files."""
        return re.sub(r"[^\w.]+", "_", self.stage).strip("_")

    def log(self, pid: int) -> Place:
        """Return where the log of a process of this machine is."""
        return self.folder / LOGS / f"{socket.gethostname()}-{self.name}-{pid}.log"

    def logs(self) -> list[Place]:
        """Return the logs that there are."""
        return listed(self.folder / LOGS, f"*-{self.name}-*.log")


class WorkerLog:
    """The log of this process, in which one worker works."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.place = work.log(os.getpid())
        self._size, self._when = 0, 0.0
        self._one = threading.Lock()
        self._own = _own_files()

    def say(self, message: str, shard: int | None = None) -> None:
        """Print a line of ours among what the worker prints."""
        work = self.work
        if work.as_json:
            line = json_line(message, work.study, work.stage, shard)
        else:
            line = f"{time.strftime('%H:%M:%S')} {message}"
        sys.stderr.write(f"{line}\n")  # Ray Train would say what is printed twice
        sys.stderr.flush()

    @contextmanager
    def kept(self, what: str, shard: int | None = None) -> Iterator[None]:
        """Keep what is printed while the block works on something, and what it raises with its traceback."""

        def copy(stop: threading.Event) -> None:
            while not stop.wait(pace(self.place, OFTEN)):
                self.copy()

        self.say(f"{what} {BEGINS}", shard)
        with in_background(copy):
            try:
                yield
            except BaseException as error:
                self.say(f"failed: {what}: {''.join(traceback.format_exception(error))}", shard)
                self.copy()
                raise
        self.say(f"{what} {DONE}", shard)
        if time.monotonic() - self._when > pace(self.place, OFTEN):
            self.copy()

    def copy(self) -> None:
        """Write the log, if more has been printed since the last time."""
        with self._one, suppress(Exception):  # the work itself says what is wrong with the storage
            sys.stdout.flush()
            size = sum(path.stat().st_size for path in self._own)
            if size != self._size:
                self._size, self._when = size, time.monotonic()
                _write(self.place, self.work, self._own)


def begin_logs(work: Work) -> None:
    """Remove the logs that an earlier start has left of a stage."""
    for log in work.logs():
        log.unlink(missing_ok=True)


def finish_logs(work: Work) -> list[str]:
    """Let each node complete the logs of its workers; return those that say what went wrong, at most `MOST`.

    These are the logs with a traceback, and without any those of workers that were lost within something.
    """
    try:
        gone = _finish_everywhere(work)
        failed, lost = [], []
        for log in work.logs():
            text = read_text(log)
            if TRACEBACK in text:
                failed.append(str(log))
            elif log.name in gone and _count(text, BEGINS) > _count(text, DONE):
                lost.append(str(log))
    except Exception:  # storages raise of every kind, and what went wrong is told without its logs
        return []
    return (failed or lost)[:MOST]


def _finish_everywhere(work: Work) -> set[str]:
    """Let each node complete its logs; return the names of those whose process is gone."""
    gone: set[str] = set()
    with suppress(RayError):  # the cluster is gone, and with it what was there
        for _, finished in ask(alive(), _finish_here, lambda _: (work,), PATIENCE):
            if not isinstance(finished, Exception):  # else its node is gone, or busy
                gone |= finished
    return gone


def _finish_here(work: Work) -> set[str]:
    """Copy what processes of this node have printed that are gone; return the names of their logs."""
    own = _own_files()
    here, finished = f"{socket.gethostname()}-", set()
    for log in work.logs():
        pid = log.stem.rpartition("-")[2]
        if not own or not log.name.startswith(here) or psutil.pid_exists(int(pid)):
            continue
        printed = [
            *own[0].parent.glob(f"worker-*-{pid}.err"),
            *own[0].parent.glob(f"worker-*-{pid}.out"),
        ]
        if printed:
            _write(log, work, printed)
            finished.add(log.name)
    return finished


def _count(text: str, last: str) -> int:
    """Return how many lines of ours end with these words, as plain text or as JSON."""
    return sum(line.endswith((f" {last}", f' {last}"}}')) for line in text.splitlines())


def _own_files() -> list[Path]:
    """Return the files of Ray's that this process prints to: standard error, then output; none outside of Ray."""
    links = [Path(f"/proc/self/fd/{descriptor}").readlink() for descriptor in (2, 1)]
    return [link for link in links if link.name.startswith("worker-")]


def _write(log: Place, work: Work, files: list[Path]) -> None:
    pid = log.stem.rpartition("-")[2]
    lines = []
    for file in files:
        text = _ends(file)
        own = [line for line in text.splitlines() if line.strip() and not line.startswith(_OF_RAY)]
        if work.as_json:
            lines += [
                line if is_json_line(line) else json_line(line, work.study, work.stage)
                for line in own
            ]
        elif own:
            what = "printed" if file.suffix == ".out" else "said"
            lines += [f"--- {what} by process {pid} on {socket.gethostname()}: {work.stage}", *own]
    write_text(log, "".join(f"{line}\n" for line in lines))


def _ends(file: Path) -> str:
    """Return the beginning and the end of a file."""
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        head = opened.read(HEAD)
        opened.seek(max(HEAD, size - TAIL))
        tail = opened.read()
    left = max(0, size - HEAD - TAIL)
    between = f"\n... {left:,} bytes were left out\n".encode() if left else b""
    return (head + between + tail).decode(errors="replace")
