"""The index of a side's features is that of looking up row by row, however the rows came to lie in the store."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tis_ray.stages.view import View
from tis_ray.store import Artifact
from tis_ray.store.feature_runs import runs_of
from tis_ray.store.feature_store import DamagedShardError, FeatureShard, FeatureStore
from tis_ray.store.feature_views import FeatureSet
from tis_ray.store.sides import Side

Row = tuple[int, str]


def _rows(pool: Side, shard: int) -> list[Row]:
    table = pool.token_table(shard, ["row", "content"]).to_pydict()
    return [*zip(table["row"], table["content"], strict=True)]


def _write(store: FeatureStore, rows: Sequence[Row], unusable: dict[int, str] | None = None) -> str:
    """Write rows whose feature is their number."""
    values = np.array([[[row, 1.0]] for row, _ in rows], np.float32).reshape(len(rows), 1, 2)
    keys = [key for _, key in rows]
    return store.write("pool", FeatureShard(keys, values, unusable or {}), "float32")


def _compute(store: FeatureStore, pool: Side, view: View) -> list[int]:
    """Do what the workers do; return the numbers of the rows that were computed."""
    computed = []
    for shard, positions in [*view.missing()]:
        rows = _rows(pool, shard)
        rows = rows if positions is None else [rows[place] for place in positions]
        _write(store, rows)
        computed += [row for row, _ in rows]
    return computed


def _features(store: FeatureStore, pool: Side, view: View, folder: Path) -> FeatureSet:
    artifact = Artifact(folder, "features-x", {})
    files = view.write(artifact)
    artifact.commit(details={"files": {"pool": files}})
    return FeatureSet("x", artifact, store, np.ones(1), False, {"pool": pool.shards})


def _values(features: FeatureSet) -> list[list[int]]:
    """Return the numbers of rows by shard, after it was checked that each has its own feature."""
    shards = range(features.shards["pool"])
    for shard in shards:
        rows = features.rows("pool", shard)
        values = features.read("pool", shard)[0]
        assert values[:, 0, 0].astype(int).tolist() == rows.tolist() if len(rows) else True
        some = np.arange(len(rows))[::-3]
        if len(some):
            assert np.array_equal(features.read("pool", shard, some)[0], values[some])
    return [features.rows("pool", shard).tolist() for shard in shards]


def _numbers(pool: Side) -> list[list[int]]:
    return [[row for row, _ in _rows(pool, shard)] for shard in range(pool.shards)]


def test_all_rows_of_a_new_pool_are_missing_and_then_found(pool: Side, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {"representation": "x"})
    view = View(store, "pool", pool, None)
    assert _compute(store, pool, view) == [*chain.from_iterable(_numbers(pool))]
    assert (view.count, view.lacking) == (148, 148)
    features = _features(store, pool, view, tmp_path)
    assert _values(features) == _numbers(pool)
    assert features.count("pool") == 148
    assert (
        len(features.runs["pool"].row_R) == 4 + 2
    )  # a shard each, and two rows that are not there
    assert (tmp_path / features.artifact.path.name / "pool.parquet").exists()
    assert len(pickle.dumps(features)) < 10_000
    again = View(store, "pool", pool, None)
    assert [*again.missing()] == []
    second = _features(store, pool, again, tmp_path / "again")
    assert (second.artifact / "pool.parquet").read_bytes() == (
        features.artifact / "pool.parquet"
    ).read_bytes()


def test_rows_of_other_shards_and_orders_are_found_and_the_others_computed(
    pool: Side, tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path, {"representation": "x"})
    every = [row for shard in range(4) for row in _rows(pool, shard)]
    known = np.random.default_rng(0).permutation(148)[:90]
    _write(store, [every[place] for place in known[:50]])
    _write(store, [every[place] for place in known[50:]])
    view = View(store, "pool", pool, None)
    computed = _compute(store, pool, view)
    assert sorted(computed) == sorted(every[place][0] for place in set(range(148)) - {*known})
    assert (view.count, view.lacking) == (148, 58)
    assert _values(_features(store, pool, view, tmp_path)) == _numbers(pool)


def test_wanted_rows_alone_are_looked_at(pool: Side, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {"representation": "x"})
    wanted = np.array([2, 5, 6, 7, 81, 149])
    view = View(store, "pool", pool, wanted)
    assert _compute(store, pool, view) == wanted.tolist()
    features = _features(store, pool, view, tmp_path)
    assert _values(features) == [[2, 5, 6, 7], [], [81], [149]]
    assert features.read("pool", 1)[0].shape == (0, 1, 1)


def test_rows_without_a_feature_are_listed_and_have_no_place(pool: Side, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {"representation": "x"})
    rows = _rows(pool, 1)
    _write(store, rows, unusable={0: "zero", 7: "zero"})
    view = View(store, "pool", pool, None)
    _compute(store, pool, view)
    features = _features(store, pool, view, tmp_path)
    lost = [rows[0][0], rows[7][0]]
    assert [int(row["line"]) for row in view.lost] == lost
    ids = dict(zip(*pool.token_table(1, ["row", "id"]).to_pydict().values(), strict=True))
    assert [row["id"] for row in view.lost] == [ids[row] for row in lost]
    assert _values(features)[1] == [row for row, _ in rows if row not in lost]


def test_a_feature_that_is_unusable_when_it_arrives_is_listed_too(
    pool: Side, tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path, {"representation": "x"})
    view = View(store, "pool", pool, None)
    for shard, _ in [*view.missing()]:
        _write(store, _rows(pool, shard), unusable={3: "zero"} if shard == 2 else {})
    features = _features(store, pool, view, tmp_path)
    assert [row["reason"] for row in view.lost] == ["zero"]
    assert features.count("pool") == 147


def test_a_file_that_disappears_meanwhile_is_an_error(pool: Side, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {"representation": "x"})
    first = _write(store, _rows(pool, 0))
    view = View(store, "pool", pool, None)
    _compute(store, pool, view)
    (store.path / "pool" / first).unlink()
    with pytest.raises(DamagedShardError, match="disappeared"):
        view.write(Artifact(tmp_path, "features-x", {}))


def test_a_run_ends_where_row_file_or_position_does_not_follow() -> None:
    rows, owners = np.array([4, 5, 6, 8, 9, 10]), np.array([0, 0, 0, 0, 0, 1])
    positions = np.array([0, 1, 5, 6, 7, 8])
    runs = runs_of(3, rows, owners, positions)
    assert [tuple(run) for run in runs.tolist()] == [
        (3, 4, 0, 0, 2),
        (3, 6, 0, 5, 1),
        (3, 8, 0, 6, 2),
        (3, 10, 1, 8, 1),
    ]
    nothing = np.zeros(0, np.int64)
    assert len(runs_of(3, nothing, nothing, nothing)) == 0
