"""The simulated study: real stages around a featuriser that costs nothing, at a size that says nothing of speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import pipeline
from benchmarks.cheap import vectors
from benchmarks.cost import Costs
from tis_ray import select
from tis_ray.storage import listed, place
from tis_ray.store import read_npy, read_tables

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.mark.parametrize("scoring", ["store", "stream"])
def test_every_step_is_taken_and_the_ordering_is_that_of_the_whole_matrix(
    scoring: str, tmp_path: Path, ray_cluster: object, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = 2500
    costs = pipeline.measure(rows, scoring, shard_rows=1000, actors=1, folder=tmp_path)
    assert [cost.name for cost in costs] == [
        "making the pool", "warm-up rows", "features", "scores", "ordering", "random subsets",
    ]  # fmt: skip
    assert all(cost.wall > 0 and cost.driver > 0 for cost in costs)
    assert costs[-2].files > 0
    assert "us a row" in capsys.readouterr().out

    root = place(tmp_path / "artifacts")
    (ordering,) = listed(root, "ordering-cheap-*/ordering.parquet")
    found = read_tables(ordering.parent, "ordering.parquet")["index"].to_numpy()
    pool = read_tables(
        next(f for f in listed(root, "tokens-*") if _rows(f) == rows), "tokens-*.parquet"
    )
    query = read_tables(
        next(f for f in listed(root, "tokens-*") if _rows(f) == pipeline.QUERIES),
        "tokens-*.parquet",
    )
    scores_MN = vectors(query["content"].to_pylist()) @ vectors(pool["content"].to_pylist()).T
    if scoring == "stream":  # int8, in which the store keeps features, moves a few
        assert (found == select(scores_MN, "round_robin", len(found)).indices).all()
    (scores,) = listed(root, "scores-cheap-*")
    kept_MN = np.concatenate([read_npy(p) for p in listed(scores, "scores-*.npy")], axis=1)
    assert (found == select(kept_MN, "round_robin", len(found)).indices).all()
    assert np.abs(kept_MN - scores_MN).max() < 0.05


def _rows(folder: object) -> int:
    return read_tables(folder, "tokens-*.parquet", ["row"]).num_rows  # type: ignore[arg-type]


def test_a_cost_has_the_files_bytes_and_memory_of_its_step_alone(tmp_path: Path) -> None:
    costs = Costs(tmp_path)
    with costs.of("large"):
        (tmp_path / "a").write_bytes(b"x" * 1000)
        held = bytearray(b"x" * 300_000_000)
    del held
    with costs.of("small"):
        pass
    large, small = costs.steps
    assert (large.files, large.gigabytes) == (1, 1e-6)
    assert (small.files, small.gigabytes) == (0, 0)
    assert large.peak_mb > small.peak_mb + 200
