from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from tis_ray.errors import InputError
from tis_ray.finished.select_scores import select_matrix
from tis_ray.selectors import Ordering, select
from tis_ray.stages.scores import score_folders
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


def test_what_a_matrix_is_taken_for_is_said(tmp_path):
    said: list[str] = []
    np.save(tmp_path / "s.npy", SCORES)
    select_matrix(tmp_path / "s.npy", "round_robin", 2, tmp_path / "a", say=said.append)
    assert said == ["40 candidates, 3 queries"]
    np.save(tmp_path / "t.npy", SCORES.T)
    select_matrix(tmp_path / "t.npy", "round_robin", 2, tmp_path / "b", say=said.append)
    assert said[1] == "3 candidates, 40 queries"
    assert "may be transposed" in said[2]


def test_masked_candidates_are_left_out_and_counted(tmp_path):
    mask = np.zeros(SCORES.shape, bool)
    mask[1, 5] = mask[2, 5] = mask[0, 9] = True
    np.savez(tmp_path / "s.npz", scores=SCORES, mask=mask)
    said: list[str] = []
    ordering = select_matrix(tmp_path / "s.npz", "round_robin", 38, tmp_path / "a", say=said.append)
    assert said[1] == "2 candidates have a masked score and are left out"
    assert set(range(40)) - set(ordering.indices.tolist()) == {5, 9}


def test_numbers_beside_another_matrix_are_not_taken_for_its_own(tmp_path):
    np.save(tmp_path / "s.npy", SCORES)
    np.save(tmp_path / "columns.npy", np.arange(39))
    ordering = select_matrix(tmp_path / "s.npy", "round_robin", 5, tmp_path / "a")
    table = pq.read_table(tmp_path / "a" / "ordering.parquet")
    assert table["index"].to_pylist() == ordering.indices.tolist()


def _cut(path):
    np.save(path, SCORES)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (_cut, "not a readable .npy"),
        (lambda path: np.save(path, SCORES[0]), "has 1 dimension"),
        (lambda path: np.save(path, SCORES[:, :0]), "is empty"),
    ],
)
def test_what_is_no_matrix_file_is_refused_by_name(tmp_path, write, message):
    path = tmp_path / "s.npy"
    write(path)
    with pytest.raises(InputError, match=f"^scores: .*{message}") as error:
        open_scores(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_an_ordering_of_a_scored_folder_is_the_studys_own(undisturbed, tmp_path):
    """`index` is a row of the pool in both, and each row says which it is."""
    study = undisturbed / "runs" / "small"
    features = study / "features" / "less"
    matrix = score_folders(features, features, tmp_path / "scores")
    select_matrix(matrix, "round_robin", 12, tmp_path / "picked")
    found = pq.read_table(tmp_path / "picked" / "ordering.parquet")
    own = pq.read_table(study / "orderings" / "less-round_robin" / "ordering.parquet")
    names = ["index", "rank", "query", "id", "source", "query_id", "file", "line"]
    assert found.column_names == own.column_names
    assert found.select(names).to_pydict() == own.select(names).to_pydict()
    np.testing.assert_allclose(found["score"].to_numpy(), own["score"].to_numpy(), rtol=1e-6)
