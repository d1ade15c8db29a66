"""Pool rows that repeat an earlier row of the pool, by the overlap guard's rule.

Two rows are equal if they say the same, character for character. A row is a near-duplicate of an
earlier one if at least half of its words lie in runs of n words that the earlier one has too; a run
that is in many rows is a template and counts neither as repeated nor as missing
(`tis_ray.data.overlap`). Rows that are dropped count as earlier rows no more, so a chain of slow
changes is not eaten up from its first link.

Rows come in shards: `row_runs` reads one. A part of all runs is put together at a time, by itself
(`Shared.of`), and what all parts found decides (`Shared.repeats`). Memory: 20 bytes a run of a part, and 20
a run that two rows share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter

import numpy as np
from xxhash import xxh3_64_intdigest

from tis_ray.data.overlap import row_words
from tis_ray.data.rows import Row

MOST_ROWS = 10
"""Rows that a run may be in before it is a template's (fewer in a small pool), as in the guard."""

_MANY = -1
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
    shared = Shared.joined([Shared.of(runs, pool_rows) for runs in parts])
    return shared.repeats(words_of, n=n, threshold=threshold)


@dataclass(frozen=True)
class Shared:
    """Which rows of the pool share runs of words.

    rows_P, earlier_P, places_P: of each pair, a row, an earlier one (-1 stands for many: the run is a
    template's) and the place in the row of a run that both have (int64, int64, int32).
    """

    rows_P: np.ndarray
    earlier_P: np.ndarray
    places_P: np.ndarray

    @staticmethod
    def of(runs: Runs, pool_rows: int) -> Shared:
        """Return the pairs of a part of all runs in a pool of so many rows."""
        most = min(MOST_ROWS, max(2, pool_rows // 200))
        pairs: list[tuple[int, int, int]] = []
        for rows_r, places_r in _groups(runs):
            of_run = [*zip(rows_r, places_r, strict=True)]
            if len(own := set(rows_r)) > most:
                pairs += [(row, _MANY, place) for row, place in of_run]
                continue
            pairs += [(row, other, place) for row, place in of_run for other in own if other < row]
        if not pairs:
            return Shared.joined([])
        rows, earlier, places = zip(*pairs, strict=True)
        return Shared(np.array(rows), np.array(earlier), np.array(places, np.int32))

    @staticmethod
    def joined(several: Sequence[Shared]) -> Shared:
        """Return the pairs of several parts as one."""
        if not several:
            none = np.empty(0, np.int64)
            return Shared(none, none, none.astype(np.int32))
        fields = zip(*((s.rows_P, s.earlier_P, s.places_P) for s in several), strict=True)
        return Shared(*(np.concatenate(field) for field in fields))

    def repeats(
        self,
        words_of: Callable[[Sequence[int]], dict[int, list[str]]],
        *,
        n: int,
        threshold: float,
    ) -> dict[int, tuple[int, float]]:
        """Return what `near_duplicates` does, of the pairs of all parts."""
        with_earlier = self.earlier_P != _MANY
        texts = words_of(
            np.union1d(self.rows_P[with_earlier], self.earlier_P[with_earlier]).tolist()
        )
        dropped: dict[int, tuple[int, float]] = {}
        for row, places_of in self._by_row():
            common = _covered(places_of.pop(_MANY, ()), n)
            if not places_of:
                continue
            wanted = len(texts[row]) - len(common)
            best: tuple[float, int] | None = None
            for earlier, places in places_of.items():
                if earlier in dropped:
                    continue
                same = _really_shared(texts[row], texts[earlier], places, n)
                value = len(_covered(same, n) - common) / wanted if wanted >= n else 0.0
                if value >= threshold and (best is None or value > best[0]):
                    best = value, earlier
            if best is not None:
                dropped[row] = best[1], best[0]
        return dropped

    def _by_row(self) -> Iterator[tuple[int, dict[int, set[int]]]]:
        """Yield each row, in order, with the places that it shares with each earlier one, in order."""
        order = np.lexsort((self.places_P, self.earlier_P, self.rows_P))
        triples = zip(
            *(f[order].tolist() for f in (self.rows_P, self.earlier_P, self.places_P)), strict=True
        )
        for row, own in groupby(triples, itemgetter(0)):
            places_of: dict[int, set[int]] = {}
            for _, earlier, place in own:
                places_of.setdefault(earlier, set()).add(place)
            yield row, places_of


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
