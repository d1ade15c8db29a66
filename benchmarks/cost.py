"""What a step costs: wall time, CPU time of the driver and of everybody, the driver's peak memory, files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from tis_ray.background import in_background

OFTEN = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """Of one step. driver, everybody: CPU seconds of this process, and of it with all its descendants.

    peak_mb: of this process while the step went on. files, gigabytes: that were added in the folder.
    """

    name: str
    wall: float = 0.0
    driver: float = 0.0
    everybody: float = 0.0
    peak_mb: float = 0.0
    files: int = 0
    gigabytes: float = 0.0


class Costs:
    """Measures steps, one after the other; `folder` is where they write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Cost] = []
        self._spent: dict[int, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[Cost]:
        """Measure the block."""
        cost = Cost(name)
        files, size = _held(self.folder)
        self._look()
        everybody = sum(self._spent.values())
        _forget_peak()
        start, driver = time.monotonic(), time.process_time()
        with in_background(self._watch):
            yield cost
        cost.wall, cost.driver = time.monotonic() - start, time.process_time() - driver
        self._look()
        cost.everybody = sum(self._spent.values()) - everybody
        cost.peak_mb = _peak_mb()
        now, bytes_now = _held(self.folder)
        cost.files, cost.gigabytes = now - files, (bytes_now - size) / 1e9
        self.steps.append(cost)

    def _watch(self, stop: Event) -> None:
        while not stop.wait(OFTEN):
            self._look()

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
