from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from tis_ray.errors import InputError
from tis_ray.finished.select_scores import select_matrix
from tis_ray.selectors import Ordering, select
from tis_ray.store.score_matrix import open_scores

SCORES = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)


def test_writes_the_ordering_and_the_same_bytes_again(tmp_path, same):
    np.save(tmp_path / "s.npy", SCORES)
    ordering = select_matrix(tmp_path / "s.npy", "round_robin", 20, tmp_path / "a")
    same(ordering, select(SCORES, "round_robin", 20))
    table = pq.read_table(tmp_path / "a" / "ordering.parquet")
    np.testing.assert_array_equal(Ordering.from_table(table).indices, ordering.indices)
    assert table.column_names == ["index", "rank", "score", "query"]

    select_matrix(str(tmp_path / "s.npy"), "round_robin", 20, str(tmp_path / "b"))
    first, second = ((tmp_path / d / "ordering.parquet").read_bytes() for d in "ab")
    assert first == second
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["ordering.parquet"]


def test_a_bad_budget_writes_nothing(tmp_path):
    np.save(tmp_path / "s.npy", SCORES)
    with pytest.raises(InputError, match="budget 41 exceeds the pool of 40"):
        select_matrix(tmp_path / "s.npy", "round_robin", 41, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _npz(path):
    with path.open("wb") as file:
        np.savez(file, a=SCORES)


def _cut(path):
    np.save(path, SCORES)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "not a readable .npy"),
        (lambda path: path.write_text("1,2\n3,4\n"), "not a readable .npy"),
        (_npz, "not a readable .npy"),
        (_cut, "not a readable .npy"),
        (lambda path: np.save(path, np.array([{"a": 1}])), "not a readable .npy"),
        (lambda path: np.save(path, SCORES[0]), "has 1 dimension"),
        (lambda path: np.save(path, SCORES[:, :0]), "is empty"),
        (lambda path: np.save(path, SCORES.astype(int)), "type int64 is not float32"),
    ],
)
def test_what_is_no_matrix_file_is_refused_by_name(tmp_path, write, message):
    path = tmp_path / "s.npy"
    write(path)
    with pytest.raises(InputError, match=message) as error:
        open_scores(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
