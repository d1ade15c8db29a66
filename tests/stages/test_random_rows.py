"""Samples of rows are those of sorting all of them by their hashes, and keep few of them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest

from tis_ray.stages import random_rows
from tis_ray.stages.random_rows import lowest_rows


def _plain(ids: Sequence[str], seed: int) -> list[int]:
    """Return the places of all ids in the order of their hashes: the rule itself."""
    keys = [blake2b(f"{seed}|{name}".encode(), digest_size=8).digest() for name in ids]
    return sorted(range(len(ids)), key=lambda place: keys[place])


def _tables(ids: Sequence[str], cuts: Sequence[int]) -> Iterator[pa.Table]:
    table = pa.table({"id": pa.array(ids, pa.string()), "content": [f"{name}!" for name in ids]})
    for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        yield table.slice(begin, end - begin)


@pytest.mark.parametrize("seed", [0, 1, -7])
@pytest.mark.parametrize("size", [0, 1, 50, 1999, 2000, 5000])
def test_the_sample_is_that_of_sorting_all(size: int, seed: int) -> None:
    ids = [f"row-{n} é" for n in range(2000)]
    places, rows = lowest_rows(lambda: _tables(ids, [3, 3, 700, 1500]), len(ids), size, seed)
    assert places.tolist() == _plain(ids, seed)[:size]
    assert rows["id"].to_pylist() == [ids[place] for place in places]
    assert rows["content"].to_pylist() == [f"{ids[place]}!" for place in places]


def test_of_equal_hashes_the_first_comes_first() -> None:
    ids = ["a", "b", "a", "a", "b"] * 20
    places, _ = lowest_rows(lambda: _tables(ids, [7]), len(ids), 60, 3)
    assert places.tolist() == _plain(ids, 3)[:60]


def test_rows_that_cannot_be_in_it_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"{n}" for n in range(20_000)]
    kept: list[int] = []
    up_to = random_rows._up_to

    def noting(limit: int, tables: Iterator[pa.Table], seed: int) -> tuple[np.ndarray, ...]:
        found = up_to(limit, tables, seed)
        kept.append(len(found[0]))
        return found

    monkeypatch.setattr(random_rows, "_up_to", noting)
    lowest_rows(lambda: _tables(ids, [10_000]), len(ids), 100, 0)
    assert len(kept) == 1
    assert 100 <= kept[0] < 300


def test_a_limit_that_was_too_low_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"{n}" for n in range(500)]
    monkeypatch.setattr(random_rows, "_limit", lambda total, size: 2**50)
    places, _ = lowest_rows(lambda: _tables(ids, [100]), len(ids), 40, 0)
    assert places.tolist() == _plain(ids, 0)[:40]
