from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tis_ray.errors import InputError
from tis_ray.selectors import Ordering


def ordering(indices=(4, 0, 2)) -> Ordering:
    return Ordering(np.array(indices), np.array([0.9, 0.1, 0.5], np.float32), [0, 1, 0], "x")


def test_table_has_the_agreed_columns_and_comes_back(same):
    table = ordering().to_table()
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("index", "int64"),
        ("rank", "int64"),
        ("score", "double"),
        ("query", "int32"),
    ]
    assert table["rank"].to_pylist() == [0, 1, 2]
    back = Ordering.from_table(table.take([2, 0, 1]))
    assert back.selector == "x"
    assert back.to_table().equals(table, check_metadata=True)
    same(Ordering.from_table(back.to_table()), back)


def test_is_frozen_and_owns_its_arrays():
    indices = np.array([4, 0, 2])
    one = ordering(indices)
    indices[0] = 7
    assert one.indices[0] == 4
    with pytest.raises(ValueError, match="read-only"):
        one.scores[0] = 1


def test_prefix_keeps_the_head_and_refuses_more_than_there_is():
    assert ordering().prefix(2).indices.tolist() == [4, 0]
    with pytest.raises(InputError, match="budget 4 exceeds"):
        ordering().prefix(4)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ((1, 2, 1), "more than once"),
        ((1, -2, 0), "-2 is negative"),
        ((1, 2), "equally long"),
        (((1, 2, 3),), "one-dimensional"),
    ],
)
def test_what_is_no_ordering_is_refused(indices, message):
    with pytest.raises(InputError, match=message):
        ordering(indices)


def test_tables_without_a_column_or_with_gaps_are_refused():
    table = ordering().to_table()
    with pytest.raises(InputError, match="column 'query' is missing"):
        Ordering.from_table(table.drop_columns("query"))
    gap = table.set_column(1, "rank", pa.array([0, 1, 3], pa.int64()))
    with pytest.raises(InputError, match="without gaps"):
        Ordering.from_table(gap)
