"""Files of somebody else's: what does not fit is refused, naming the config key and the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tis_ray.errors import InputError
from tis_ray.store.given_files import GivenVectors, check_matrix, check_ordering, read_ordering

IDS = ["a", "b", "c"]


@pytest.fixture
def table(tmp_path: Path) -> Any:
    def write(**columns: Any) -> str:
        path = str(tmp_path / "given.parquet")
        pq.write_table(pa.table(columns), path)
        return path

    return write


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[1.0, 2.0, 3.0]] * 3, "has 3 scores in a row, but the study reads 2 queries"),
        ([[1.0]] * 3, "has 1 scores in a row"),
        ([1.0, 2.0, 3.0], "`scores` is of type double"),
    ],
)
def test_a_row_of_scores_has_one_for_each_query(table: Any, scores: Any, message: str) -> None:
    with pytest.raises(InputError, match="scores: ") as caught:
        check_matrix(table(id=IDS, scores=scores), "given.mine.scores", 2, 3)
    assert message in str(caught.value)


def test_a_table_may_lack_pool_rows(table: Any) -> None:
    check_matrix(table(id=IDS[:1], scores=[[1.0, 2.0]]), "given.mine.scores", 2, 3)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"rank": [2, 1, 0]}, "not sorted by its `rank`"),
        ({"score": ["3", "2", "1"]}, "`score` is of type string"),
    ],
)
def test_an_ordering_stands_best_first(table: Any, columns: Any, message: str) -> None:
    with pytest.raises(InputError, match="ordering: ") as caught:
        check_ordering(table(id=IDS, **columns), "given.mine.ordering")
    assert message in str(caught.value)
    check_ordering(table(id=IDS, rank=[0, 1, 2], score=[1, 3, 2]), "given.mine.ordering")


def test_an_ordering_has_rows(table: Any) -> None:
    with pytest.raises(InputError, match="has no rows"):
        check_ordering(table(id=pa.array([], pa.string())), "given.mine.ordering")


def test_a_matrix_of_features_is_refused_by_its_own_key(tmp_path: Path) -> None:
    np.save(tmp_path / "F.npy", np.zeros((3, 4), bool))
    with pytest.raises(InputError) as caught:
        GivenVectors(str(tmp_path / "F.npy"), "given.mine.features", 3)
    assert str(caught.value).startswith("given.mine.features: ")
    assert "type bool is no number" in str(caught.value)


def test_rows_that_the_study_does_not_use_are_named_with_the_reason(table: Any) -> None:
    path, rows = table(id=["d", "a", "b", "c", "e"]), {"b": 1}
    lost = {"a": "overlaps_test", "c": "excluded"}
    with pytest.raises(InputError) as caught:
        read_ordering(path, "given.mine.ordering", rows, lost)
    assert str(caught.value).endswith(
        "4 of 5 ids are not usable rows of the pool ('d': no such id, 'a': overlaps_test, "
        "'c': excluded, ...); take them out of the file"
    )
    assert read_ordering(table(id=["b"]), "given.mine.ordering", rows, lost)[0].tolist() == [1]
