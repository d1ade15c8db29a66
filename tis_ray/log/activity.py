"""What a run is busy with at a moment: how far it is, how fast it goes, and what that is in words."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypedDict


class Numbers(TypedDict):
    """How far something is, as files have it: `rate` in `rate_unit` a second, `left` in seconds."""

    done: int
    total: int
    unit: str
    rate: float | None
    rate_unit: str
    left: float | None


@dataclass
class Activity:
    """Something that takes a while: a wait, or work of which `done` of `total` units are done.

    parts: how much of the work is done in finer steps (rows of shards), where that is known.
    state: what it waits for, until its first unit or part is done ("starting workers").
    """

    label: str
    unit: str = ""
    total: int = 0
    state: str = ""
    done: int = 0
    part: str = ""
    parts: int = 0
    parts_total: int = 0
    since: float = field(default_factory=time.time)
    _first: tuple[float, int] | None = None
    """When something was done for the first time, and how much."""

    def now(self, state: str) -> None:
        """Take note of what it does from now on."""
        self.state, self.since = state, time.time()

    def count(self, done: int, total: int | None = None, parts: int = 0) -> None:
        """Take note of how far it is."""
        self.done, self.parts = done, max(parts, self.parts)
        if total is not None:
            self.total = total
        if self._first is None and self._work > 0:
            self._first = time.time(), self._work

    def advance(self, n: int = 1) -> None:
        """Take note of `n` more units."""
        self.count(self.done + n)

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.time() - self.since

    @property
    def rate(self) -> float | None:
        """Parts, else units, a second since the first were done; None before there are two."""
        if self._first is None:
            return None
        began, first = self._first
        spent, more = time.time() - began, self._work - first
        return more / spent if more > 0 and spent > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds that are left at this rate."""
        whole = self.parts_total or self.total
        return (whole - self._work) / self.rate if self.rate and whole else None

    def numbers(self) -> Numbers:
        """Return how far it is."""
        return Numbers(
            done=self.done,
            total=self.total,
            unit=self.unit,
            rate=self.rate,
            rate_unit=self.part or self.unit,
            left=self.left,
        )

    @property
    def _work(self) -> int:
        return self.parts if self.parts_total else self.done

    def words(self) -> str:
        """Return how far it is: "3 of 9 shards, 41 rows/s, 2:10 left"; of a wait, how long it has been."""
        spent = f"{self.seconds:.0f} s"
        if not self.total or not self._work:
            return f"{self.state} ({spent})" if self.state else f"({spent})"
        found = [f"{self.done:,} of {self.total:,} {self.unit}"]
        if self.done == self.total:
            return f"{found[0]}, finishing ({spent})"
        if self.rate is not None and self.left is not None:
            found.append(f"{_number(self.rate)} {self.part or self.unit}/s")
            found.append(f"{duration(self.left)} left")
        else:
            found.append(spent)
        return ", ".join(found)


def duration(seconds: float) -> str:
    """Return a time as `0:07`, `2:10` or `3:02:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
