"""What a step costs: wall time, CPU time of the driver and of everybody, the driver's peak memory, files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

from tis_ray.background import in_background
from tis_ray.distributed.shards import map_shards
from tis_ray.stages import featurize, scores

OFTEN = 1.0
_OTHERS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """Of one step. driver, everybody: CPU seconds of this process, and of it with all its descendants.

    workers: of Ray's workers that had something to do. waiting: what of the driver's it spent while they
    worked, on Ray Data and on showing progress. peak_mb: of this process while the step went on. files,
    gigabytes: that were added in the folder.
    """

    name: str
    wall: float = 0.0
    driver: float = 0.0
    everybody: float = 0.0
    workers: float = 0.0
    peak_mb: float = 0.0
    files: int = 0
    gigabytes: float = 0.0
    waiting: float = 0.0

    @property
    def own(self) -> float:
        """CPU seconds that the driver takes while nobody else works."""
        return self.driver - self.waiting


class Costs:
    """Measures steps, one after the other; `folder` is where they write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Cost] = []
        self._spent: dict[int, float] = {}
        self._busy: set[int] = set()
        self._looking = 0.0

    @contextmanager
    def of(self, name: str) -> Iterator[Cost]:
        """Measure the block."""
        cost = Cost(name)
        files, size = _held(self.folder)
        self._look()
        before, workers, self._looking = sum(self._spent.values()), self._of_busy(), 0.0
        _forget_peak()
        start, driver = time.monotonic(), time.process_time()
        with in_background(self._watch), _timed_maps(cost):
            yield cost
        cost.wall = time.monotonic() - start
        cost.driver = time.process_time() - driver - self._looking
        cost.waiting = max(0.0, cost.waiting - self._looking)
        self._look()
        cost.everybody = sum(self._spent.values()) - before
        cost.workers = self._of_busy() - workers
        cost.peak_mb = _peak_mb()
        now, bytes_now = _held(self.folder)
        cost.files, cost.gigabytes = now - files, (bytes_now - size) / 1e9
        self.steps.append(cost)

    def _of_busy(self) -> float:
        return sum(self._spent[process] for process in self._busy)

    def _watch(self, stop: Event) -> None:
        while not stop.wait(OFTEN):
            start = time.thread_time()
            self._look()
            self._looking += time.thread_time() - start

    def _look(self) -> None:
        """Keep the CPU seconds of each process below this one; what ends is missed by a moment."""
        parents: dict[int, int] = {}
        seconds: dict[int, float] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(entry.name)] = int(fields[1])
                seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
        mine = os.getpid()
        for process, spent in seconds.items():
            above = process
            while above != mine and above in parents:
                above = parents[above]
            if above == mine:
                self._spent[process] = spent
                if process not in self._busy and _is_busy(process):
                    self._busy.add(process)


def _is_busy(process: int) -> bool:
    """Return whether a process is a worker of Ray that has been given something to do."""
    try:
        name = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return name.startswith("ray::") and not name.startswith(_OTHERS)


@contextmanager
def _timed_maps(cost: Cost) -> Iterator[None]:
    """Count as waiting what the driver spends in `map_shards`."""

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        try:
            return map_shards(*arguments, **named)
        finally:
            cost.waiting += time.process_time() - start

    with ExitStack() as patches:
        for module in (featurize, scores):
            patches.enter_context(patch.object(module, "map_shards", timed))
        yield


def _held(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def _forget_peak() -> None:
    """Let the system count this process's peak memory anew, where it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
