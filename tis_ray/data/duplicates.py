"""Pool rows that repeat an earlier row of the pool, by the overlap guard's rule.

Two rows are equal if they say the same, character for character. A row is a near-duplicate of an
earlier one if at least half of its words lie in runs of n words that the earlier one has too; a run
that is in many rows is a template and counts neither as repeated nor as missing
(`tis_ray.data.overlap`). Rows that are dropped count as earlier rows no more, so a chain of slow
changes is not eaten up from its first link.

Rows come in shards: `row_runs` reads one, and `near_duplicates` puts them together, a part of all runs
at a time. Memory: 16 bytes a run of that part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from xxhash import xxh3_64_intdigest

from tis_ray.data.overlap import row_words
from tis_ray.data.rows import Row

MOST_ROWS = 10
"""Rows that a run may be in before it is a template's (fewer in a small pool), as in the guard."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Runs:
    """The runs of words in some rows of the pool.

    hashes_R, rows_R, places_R: of each run, its hash (uint64), the row's number and the place of the
    run's first word in it (int64, int32).
    """

    hashes_R: np.ndarray
    rows_R: np.ndarray
    places_R: np.ndarray

    def part(self, part: int, parts: int) -> Runs:
        """Return the runs whose hashes belong to one of `parts` parts."""
        mine = self.hashes_R % np.uint64(parts) == part
        return Runs(self.hashes_R[mine], self.rows_R[mine], self.places_R[mine])

    @staticmethod
    def joined(several: Sequence[Runs]) -> Runs:
        """Return the runs of several shards as one."""
        if not several:
            return Runs(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int32))
        fields = zip(*((r.hashes_R, r.rows_R, r.places_R) for r in several), strict=True)
        return Runs(*(np.concatenate(field) for field in fields))


def row_runs(rows: Iterable[tuple[int, Row]], n: int) -> Runs:
    """Return the runs of n words of numbered rows."""
    hashes, numbers, places = [], [], []
    known: dict[str, int] = {}
    for number, row in rows:
        words = row_words(row)
        count = len(words) - n + 1
        if count < 1:
            continue
        for word in words:
            if word not in known:
                known[word] = xxh3_64_intdigest(word.encode())
        words_W = np.fromiter((known[word] for word in words), np.uint64, len(words))
        run_R = np.zeros(count, np.uint64)
        for place in range(n):
            run_R = (run_R ^ words_W[place : place + count]) * _FACTOR
            run_R ^= run_R >> np.uint64(29)
        hashes.append(run_R)
        numbers.append(np.full(count, number, np.int64))
        places.append(np.arange(count, dtype=np.int32))
    if not hashes:
        return Runs.joined([])
    return Runs(np.concatenate(hashes), np.concatenate(numbers), np.concatenate(places))


def near_duplicates(
    parts: Iterable[Runs],
    pool_rows: int,
    words_of: Callable[[Sequence[int]], dict[int, list[str]]],
    *,
    n: int,
    threshold: float = 0.5,
) -> dict[int, tuple[int, float]]:
    """Return the rows to drop: of each, the earlier row that it repeats and the share of its words.

    parts: all runs of the pool, part by part (`Runs.part`). words_of: gives the words of rows.
    """
    most = min(MOST_ROWS, max(2, pool_rows // 200))
    shared: dict[tuple[int, int], set[int]] = defaultdict(set)
    templates: dict[int, set[int]] = defaultdict(set)
    for runs in parts:
        for rows_r, places_r in _groups(runs):
            if len(set(rows_r)) > most:
                for row, place in zip(rows_r, places_r, strict=True):
                    templates[row].add(place)
                continue
            for row, place in zip(rows_r, places_r, strict=True):
                for earlier in {other for other in rows_r if other < row}:
                    shared[row, earlier].add(place)
    texts = words_of(sorted({row for pair in shared for row in pair}))
    dropped: dict[int, tuple[int, float]] = {}
    earlier_of: dict[int, list[int]] = defaultdict(list)
    for row, earlier in sorted(shared):
        earlier_of[row].append(earlier)
    for row in earlier_of:
        common = _covered(templates.get(row, ()), n)
        wanted = len(texts[row]) - len(common)
        best: tuple[float, int] | None = None
        for earlier in earlier_of[row]:
            if earlier in dropped:
                continue
            same = _really_shared(texts[row], texts[earlier], shared[row, earlier], n)
            value = len(_covered(same, n) - common) / wanted if wanted >= n else 0.0
            if value >= threshold and (best is None or value > best[0]):
                best = value, earlier
        if best is not None:
            dropped[row] = best[1], best[0]
    return dropped


def _groups(runs: Runs) -> Iterator[tuple[list[int], list[int]]]:
    """Yield rows and places of each run that is in more than one row."""
    order = np.lexsort((runs.places_R, runs.rows_R, runs.hashes_R))
    hashes_R, rows_R, places_R = (a[order] for a in (runs.hashes_R, runs.rows_R, runs.places_R))
    bounds = np.flatnonzero(np.diff(hashes_R, prepend=~hashes_R[:1], append=~hashes_R[-1:]))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if end - start > 1 and rows_R[start] != rows_R[end - 1]:
            yield rows_R[start:end].tolist(), places_R[start:end].tolist()


def _really_shared(
    words: Sequence[str], others: Sequence[str], places: Iterable[int], n: int
) -> list[int]:
    """Return the places whose runs the other row has, word for word: two runs may have one hash."""
    theirs = {tuple(others[place : place + n]) for place in range(len(others) - n + 1)}
    return [place for place in places if tuple(words[place : place + n]) in theirs]


def _covered(places: Iterable[int], n: int) -> set[int]:
    return set(chain.from_iterable(range(place, place + n) for place in places))
