"""Distances beside the cells of a real study: the pure functions' values, found again, continued."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.small import small_study
from tis_ray.analysis.bounds import chord_cost, sampling_term
from tis_ray.analysis.distances import cosine_cost, subset_distances, wasserstein
from tis_ray.report import StudyRecord
from tis_ray.stages.subset_distances import _thinned
from tis_ray.store.feature_views import combine, open_features
from tis_ray.study.run import run

pytestmark = pytest.mark.ray


def record(folder: Path) -> StudyRecord:
    return StudyRecord.load(folder / "runs" / "small" / "report" / "record.json")


def test_each_subset_has_the_distances_of_its_columns(undisturbed: Path) -> None:
    run_dir = undisturbed / "runs" / "small"
    scores = run_dir / "scores" / "less"
    matrix = np.concatenate([np.load(p) for p in sorted(scores.glob("scores-*.npy"))], axis=1)
    chosen = pq.read_table(run_dir / "orderings" / "less-round_robin" / "ordering.parquet")
    places = {
        "round_robin": np.searchsorted(np.load(scores / "columns.npy"), chosen["index"].to_numpy()),
        "random": np.random.default_rng(0).permutation(160)[:12],
    }
    features = open_features(run_dir / "features" / "less")
    unit = {
        side: combine(
            np.concatenate([features.read(side, s)[0] for s in range(features.shards[side])]),
            features.weights_C,
        )
        for side in ("pool", "query")
    }
    (found,) = record(undisturbed).distances
    assert found["columns"] == found["pool"]["candidates"] == 160
    assert [cell["selector"] for cell in found["subsets"]] == ["random", "round_robin"]
    for cell in found["subsets"]:
        mine = np.sort(places[cell["selector"]])
        bandwidth = cell["mmd"]["bandwidth"]
        assert bandwidth == found["pool"]["mmd"]["bandwidth"]  # or they could not be compared
        expected = subset_distances(
            cosine_cost(matrix[:, mine]), unit["query"], unit["pool"][mine], bandwidth=bandwidth
        ).to_dict()
        expected["chord"] = vars(wasserstein(chord_cost(matrix[:, mine])))
        for name in ("w1", "chord", "mmd"):
            for key, value in expected.pop(name).items():
                known = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
                assert cell[name][key] == known, (name, key)
        for name, value in expected.items():
            assert cell[name] == pytest.approx(value), name
        dimension = found["dimension"]["intrinsic"]
        assert cell["sampling"] == pytest.approx(2 * sampling_term(12, dimension))
        assert cell["w1"]["method"] == "network simplex"
    random, picked = found["subsets"]
    assert random["digest"] != picked["digest"]
    assert picked["w1"]["value"] < random["w1"]["value"]


def test_a_stage_that_was_stopped_continues_with_the_subsets_it_lacks(copied: Path) -> None:
    (artifact,) = (copied / "artifacts").glob("distances-less-*")
    whole = (artifact / "distances.json").read_bytes()
    items = sorted(artifact.glob("item-*.json"))
    assert len(items) == 3  # the pool, random's subset, and the ordering's
    items[1].unlink()
    (artifact / "distances.json").unlink()
    (artifact / "_SUCCESS").unlink()
    kept = {path: path.stat().st_mtime_ns for path in items if path.exists()}
    run(small_study(copied))
    assert (artifact / "distances.json").read_bytes() == whole
    assert items[1].exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_without_features_there_is_no_mmd_and_without_cosines_nothing(copied: Path) -> None:
    (warmup,) = (copied / "artifacts").glob("warmup-*")
    study = small_study(
        copied,
        representation=["less", "bm25"],
        less__scoring="stream",
        less__warmup__checkpoints=str(warmup),
    )
    run(study)
    streamed, words = record(copied).distances
    assert words == {"representation": "bm25", "reason": "its scores are not cosines"}
    assert streamed["dimension"] is None
    for cell in streamed["subsets"]:
        assert cell["mmd"] is cell["sampling"] is None
        assert cell["w1"]["value"] > 0
    agreement, shown = record(copied).agreement, record(copied).orderings
    tables = [
        pq.read_table(copied / f"runs/small/orderings/{name}-round_robin/ordering.parquet")["index"]
        for name in ("less", "bm25")
    ]
    shared = len({*tables[0].to_pylist()} & {*tables[1].to_pylist()})
    (pair,) = agreement["pairs"]
    assert pair["jaccard"] == shared / (24 - shared)
    assert 0 <= pair["rank_biased"] <= 1
    assert agreement["random"] == 12 / (320 - 12)
    assert [ordering["scores"]["rows"] for ordering in shown] == [12, 12]
    assert shown[1]["rows"][0]["margin"] >= 0
    assert "duplicates" not in shown[1]["rows"][0]
    page = (copied / "runs/small/report/index.html").read_text()
    assert "Not measured: its scores are not cosines." in page
    lines = (copied / "runs" / "small" / "events.jsonl").read_text().splitlines()
    notes = [e["note"] for e in map(json.loads, lines) if e.get("stage") == "distances less"]
    assert notes[-1].startswith("W1 to the queries at 12: random 0.")


def test_a_sample_is_spread_evenly() -> None:
    assert _thinned(np.arange(4), 5).tolist() == [0, 1, 2, 3]
    assert _thinned(np.arange(10), 4).tolist() == [0, 2, 5, 7]
