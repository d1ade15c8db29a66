"""Rows are read by the shards that hold them, and no other shard is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tis_ray.stages.ordering_artifact import ids_and_sources
from tis_ray.stages.training_rows import take_examples
from tis_ray.store import sides
from tis_ray.store.sides import Side
from tis_ray.study.texts import side_texts


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []
    read = sides.read_parquet

    def noting(path: Path, *more: object) -> pa.Table:
        names.append(path.name)
        return read(path, *more)

    monkeypatch.setattr(sides, "read_parquet", noting)
    return names


def test_the_manifest_says_how_many_rows_each_shard_kept(pool: Side) -> None:
    assert pool.starts.tolist() == [0, 40, 78, 118, 148]
    assert pool.usable == 148


def test_a_subset_is_that_of_all_rows(pool: Side, opened: list[str]) -> None:
    every = pa.concat_tables(pool.token_tables())
    rng = np.random.default_rng(0)
    for size in (1, 7, 148):
        positions = rng.permutation(148)[:size]
        assert take_examples(pool, positions).equals(
            every.take(positions).combine_chunks().cast(take_examples(pool, positions).schema)
        )
    opened.clear()
    take_examples(pool, np.array([147, 120, 118]))
    assert opened == ["tokens-00003.parquet"]


def test_facts_and_places_are_in_the_order_that_is_asked_for(pool: Side, opened: list[str]) -> None:
    rows = np.array([149, 3, 42, 2])
    every = pa.concat_tables(pool.token_tables()).to_pylist()
    named = {row["row"]: (row["id"], row["source"]) for row in every}
    assert ids_and_sources(pool, rows) == {row: named[row] for row in rows.tolist()}
    assert pool.origins_of(rows)["row"].to_pylist() == rows.tolist()
    assert pool.origins_of(rows)["line"].to_pylist() == [150, 4, 43, 3]
    opened.clear()
    pool.facts_of(rows, "row", "id")
    assert sorted(opened) == [f"tokens-{shard:05d}.parquet" for shard in (0, 1, 3)]
    assert pool.facts_of(np.zeros(0, np.int64), "row", "id").num_rows == 0


def test_a_row_that_has_no_tokens_is_an_error(pool: Side) -> None:
    lost = sorted({*range(40, 80)} - {*pool.token_table(1)["row"].to_pylist()})
    assert len(lost) == 2
    with pytest.raises(KeyError, match="lacks some of the rows"):
        pool.facts_of(np.array([41, lost[0]]), "row", "id")


def test_texts_are_read_of_the_shards_concerned(pool: Side, opened: list[str]) -> None:
    texts = side_texts(pool, [81, 2])
    assert [text["row"] for text in texts] == [2, 81]
    assert opened == ["rows-00000.parquet", "rows-00002.parquet"]
