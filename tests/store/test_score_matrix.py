"""Scores on disk: any columns and all blocks, however the columns are cut into files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.store import score_matrix as matrix_module
from tis_ray.store.score_matrix import ScoreMatrix


def written(folder: Path, scores_MN: np.ndarray, cuts: list[int]) -> ScoreMatrix:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.npy"):
        old.unlink()
    for shard, part in enumerate(np.split(scores_MN, cuts, axis=1)):
        np.save(folder / f"scores-{shard:05d}.npy", part)
    np.save(folder / "columns.npy", 3 * np.arange(scores_MN.shape[1]))
    np.save(folder / "queries.npy", np.arange(len(scores_MN)))
    return ScoreMatrix(folder)


@tries(40, [HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_cut_gives_the_same_columns_and_blocks(tmp_path: Path, data: st.DataObject) -> None:
    queries, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 30))
    scores_MN = np.random.default_rng(0).random((queries, columns)).astype(np.float32)
    cuts = sorted(data.draw(st.lists(st.integers(0, columns), max_size=4)))  # empty shards too
    found = written(tmp_path, scores_MN, cuts)
    places = np.array(data.draw(st.lists(st.integers(0, columns - 1), max_size=20)), np.int64)
    assert np.array_equal(found.read(places), scores_MN[:, places])
    before = matrix_module.BLOCK_VALUES
    matrix_module.BLOCK_VALUES = data.draw(st.integers(1, 50))
    try:
        blocks = list(found.blocks())
    finally:
        matrix_module.BLOCK_VALUES = before
    assert np.array_equal(np.concatenate([block for _, block in blocks], axis=1), scores_MN)
    assert [start for start, _ in blocks] == np.cumsum(
        [0, *(block.shape[1] for _, block in blocks)]
    )[:-1].tolist()


def test_rows_without_a_score_are_left_out(tmp_path: Path) -> None:
    found = written(tmp_path, np.zeros((1, 4), np.float32), [2])  # rows 0, 3, 6, 9
    assert found.places(np.array([9, 1, 0, 10, 6])).tolist() == [3, 0, 2]


@pytest.mark.parametrize("most", [1, 5, 64])
def test_a_block_is_bounded(tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = written(tmp_path, np.zeros((2, 33), np.float32), [20])
    monkeypatch.setattr(matrix_module, "BLOCK_VALUES", most)
    assert max(block.size for _, block in found.blocks()) <= max(most, 2)
