"""Files of scores of some shards: nothing is lost, doubled or out of order, whatever their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tis_ray.stages.packed_scores import PackScores, packed_noise, packs
from tis_ray.storage import listed
from tis_ray.store import read_npy, read_tables, write_npy, write_parquet

QUERIES = 3
COLUMNS = (4, 0, 1, 7, 2, 0, 5)
"""Of each shard."""


def written(parts: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Write shards as the workers do; return all scores and the noise of each."""
    rng = np.random.default_rng(0)
    scores, noises, first = [], [], 0
    for shard, count in enumerate(COLUMNS):
        rows = np.arange(first, first + count) * 2
        facts = {"row": pa.array(rows, pa.int64()), "loss": pa.array(rows.tolist())}
        if not count:
            facts["loss"] = pa.array([])  # of no type: there is nothing in it
        write_parquet(parts / f"rows-{shard:05d}.parquet", pa.table(facts))
        scores.append(rng.normal(size=(QUERIES, count)).astype(np.float32))
        noises.append(rng.normal(size=(2, QUERIES, 1 + count // 2)))
        write_npy(parts / f"noise-{shard:05d}.npy", noises[-1])
        write_npy(parts / f"scores-{shard:05d}.npy", scores[-1])
        first += count
    return np.concatenate(scores, axis=1), noises


@pytest.mark.parametrize("most", [1, 150, 250, 10**6])
def test_files_of_any_size_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("tis_ray.stages.packed_scores.BYTES", most)
    parts, out = tmp_path / "parts", tmp_path / "out"
    scores_MN, noises = written(parts)
    groups = packs(parts, len(COLUMNS))
    assert [shard for group in groups for shard in group] == [*range(len(COLUMNS))]
    worker = PackScores(parts, out, groups, noisy=True)
    assert sum(worker(pack)["rows"] for pack in range(len(groups))) == sum(COLUMNS)
    files = listed(out, "scores-*.npy")
    assert len(files) == len(groups)
    np.testing.assert_array_equal(np.concatenate([*map(read_npy, files)], axis=1), scores_MN)
    table = read_tables(out, "rows-*.parquet", ["row"])
    assert table["row"].to_pylist() == [*range(0, 2 * sum(COLUMNS), 2)]
    noise = packed_noise([*map(read_npy, listed(parts, "packed-noise-*.npy"))])
    np.testing.assert_allclose(noise[:, :, 0], sum(part[:, :, 0] for part in noises), rtol=1e-12)
    expected = np.concatenate([part[:, :, 1:] for part in noises], axis=2)
    np.testing.assert_array_equal(noise[:, :, 1:], expected)


def test_what_is_small_is_one_file(tmp_path: Path) -> None:
    written(tmp_path)
    assert packs(tmp_path, len(COLUMNS)) == [range(len(COLUMNS))]
