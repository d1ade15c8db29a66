"""What is kept of every usable row is what its tables say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from tis_ray.store.usable_rows import UsableRows

SOURCES = ["b", "b", "a", "a", "c", "b", "a"]
TABLE = pa.table(
    {
        "row": pa.array([0, 2, 3, 10, 11, 12, 20], pa.int64()),
        "source": pa.array(SOURCES, pa.string()),
        "tokens": pa.array([9, 8, 7, 6, 5, 4, 3], pa.int32()),
        "response_tokens": pa.array([1, 2, 1, 2, 1, 2, 1], pa.int32()),
    }
)


def _rows() -> UsableRows:
    """Return the rows of four tables, of which one is empty."""
    tables = (TABLE.slice(*part) for part in [(0, 3), (3, 0), (3, 1), (4, 3)])
    return UsableRows.of(tables, 7)


@pytest.mark.parametrize("count", [6, 8])
def test_tables_that_have_not_the_rows_that_were_promised(count: int) -> None:
    with pytest.raises(ValueError, match=r"could not broadcast|7 rows were read, and 8"):
        UsableRows.of([TABLE], count)


def test_columns_are_those_of_all_tables() -> None:
    rows = _rows()
    assert len(rows) == 7
    assert rows.rows_N.tolist() == TABLE["row"].to_pylist()
    assert rows.tokens_N.tolist() == TABLE["tokens"].to_pylist()
    assert rows.responses_N.tolist() == TABLE["response_tokens"].to_pylist()
    assert rows.sources == ["b", "a", "c"]


def test_rows_are_found_by_their_numbers() -> None:
    rows = _rows()
    assert rows.places(np.array([20, 3])).tolist() == [6, 2]
    assert rows.sources_of(np.array([12, 11, 2])) == ["b", "c", "b"]
    assert rows.sources_of(np.zeros(0, np.int64)) == []


def test_sources_are_counted_in_the_order_in_which_they_appear() -> None:
    assert [*_rows().counts().items()] == [*Counter(SOURCES).items()]


def test_a_row_takes_twenty_bytes() -> None:
    rows = _rows()
    kept = (rows.rows_N, rows.codes_N, rows.tokens_N, rows.responses_N)
    assert sum(array.itemsize for array in kept) == 20
