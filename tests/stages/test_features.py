"""The feature stage: what is kept, found again, computed again, refused, and survived."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
from safetensors.torch import load_file, save_file

from tests.small import ordering_bytes, small_study
from tis_ray.data import builtin
from tis_ray.errors import InputError
from tis_ray.models.loading import load_tokenizer
from tis_ray.representations.less.features import Gradients
from tis_ray.selectors import select
from tis_ray.settings import ModelConfig
from tis_ray.stages import featurize as featurize_module
from tis_ray.stages.featurize import Featurise
from tis_ray.stages.scores import score_folders
from tis_ray.store.feature_views import combine, open_features
from tis_ray.study.run import run

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def warmup(folder: Path) -> str:
    (found,) = (folder / "artifacts").glob("warmup-*")
    return str(found)


def features(folder: Path, name: str = "less"):
    return open_features(folder / "runs" / "small" / "features" / name)


def scores(folder: Path, name: str = "less") -> np.ndarray:
    link = folder / "runs" / "small" / "scores" / name
    return np.concatenate([np.load(p) for p in sorted(link.glob("scores-*.npy"))], axis=1)


def by_id(folder: Path) -> dict[str, np.ndarray]:
    """Return {pool id: its features (C, K)}."""
    found = features(folder)
    pool = folder / "artifacts" / f"tokens-{found.artifact.manifest().inputs['pool']}"
    names, values = [], []
    for shard in range(found.shards["pool"]):
        table = pq.read_table(pool / f"tokens-{shard:05d}.parquet", columns=["row", "id"])
        known = dict(zip(*table.to_pydict().values(), strict=True))
        names += [known[row] for row in found.rows("pool", shard).tolist()]
        values += list(found.read("pool", shard)[0])
    return dict(zip(names, values, strict=True))


def events(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "runs" / "small" / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_pool_that_grew_pays_for_its_new_rows_alone(copied, undisturbed):
    rows = builtin.pool_rows(176, 0)
    old = {row["id"] for row in builtin.pool_rows(160, 0)}
    new = [row for row in rows if row["id"] not in old] or rows[160:]
    pool = copied / "pool.jsonl"
    grown = [*new[:7], *builtin.pool_rows(160, 0), *new[7:16]]  # not only at the end
    pool.write_text("\n".join(map(json.dumps, grown)))
    study = small_study(copied, data__pool=str(pool), less__warmup__checkpoints=warmup(copied))
    run(study, until="featurize")
    details = features(copied).artifact.manifest().details
    assert details["computed"] == len(grown) - 160 == 16
    before, after = by_id(undisturbed), by_id(copied)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert len(after) == 176


def test_a_changed_byte_is_detected_and_that_shard_alone_is_computed_again(copied, undisturbed):
    for stale in [*copied.glob("artifacts/scores-*"), *copied.glob("artifacts/ordering-*")]:
        shutil.rmtree(stale)
    files = sorted(copied.glob("artifacts/store-less-*/pool/*.safetensors"))
    assert len(files) == 4
    times = {path: path.stat().st_mtime_ns for path in files}
    content = bytearray(files[2].read_bytes())
    content[len(content) // 2] ^= 16
    files[2].write_bytes(content)
    run(small_study(copied), until="select")
    (event,) = events(copied, "damaged")
    assert files[2].name in event["error"]
    assert features(copied).artifact.manifest().details["computed"] == 40
    assert all(p.stat().st_mtime_ns == times[p] for p in files if p != files[2])
    assert ordering_bytes(copied) == ordering_bytes(undisturbed)


def test_features_of_two_spaces_are_refused_and_of_one_are_scored(copied, undisturbed, tmp_path):
    pool = copied / "runs" / "small" / "features" / "less"
    other = small_study(
        copied,
        name="other",
        less__sketch__width=256,
        less__warmup__checkpoints=warmup(copied),
        less__scoring="stream",  # its queries are enough
    )
    run(other, until="featurize")
    query = copied / "runs" / "other" / "features" / "less"
    with pytest.raises(InputError, match=r"differ in sketch\.width: 512 against 256$"):
        score_folders(pool, query, tmp_path / "scores")
    with pytest.raises(InputError, match="holds no pool features"):
        score_folders(query, pool, tmp_path / "scores")
    matrix = np.load(score_folders(pool, pool, tmp_path / "scores"))
    np.testing.assert_allclose(matrix, scores(undisturbed), atol=1e-6)


def test_streamed_scores_are_those_of_stored_features_and_exact_ones_are_near(copied, undisturbed):
    shutil.rmtree(next(copied.glob("artifacts/store-less-*")))
    given = {"less__warmup__checkpoints": warmup(copied), "budget": 12}
    run(small_study(copied, less__scoring="stream", **given), until="select")
    assert not list(copied.glob("artifacts/store-less-*/pool/*"))
    assert np.array_equal(scores(copied), scores(undisturbed))
    run(small_study(copied, less__scoring="exact", **given), until="select")
    link = copied / "runs" / "small" / "scores" / "less"
    assert json.loads((link / "certificate.json").read_text()) == {
        "projection": False,
        "kind": "exact gradients",
    }
    certificate = json.loads((undisturbed / "runs/small/scores/less/certificate.json").read_text())
    error = np.sqrt(np.mean((scores(copied) - scores(undisturbed)) ** 2))
    # Four queries share much of their error, so this is a check of order and not of digits.
    assert certificate["noise"] / 3 < error < certificate["noise"] * 3


def test_the_other_representations_a_proxy_and_a_cascade(undisturbed, tmp_path, golden_dir):
    proxy = shutil.copytree(golden_dir / "less" / "base_model", tmp_path / "proxy")
    shutil.copytree(golden_dir / "less" / "tokenizer", proxy, dirs_exist_ok=True)
    study = small_study(
        tmp_path,
        representation=["rds", "bm25", "less"],
        rds__model={"name": str(proxy)},
        less__cascade={"by": "bm25", "keep": 0.25, "sample": 60},
        data__max_length=256,  # the proxy reads bytes
        seed=0,
        finetune__epochs=1,
        evaluation__metrics=[],
    )
    result = run(study)
    assert [o.representation for o in result.orderings] == ["rds", "bm25", "less"]
    needed = [
        (s.stage, *(m.representation + f" + {m.selector}" * bool(m.selector) for m in s.needed_by))
        for s in result.record.stages
        if s.needed_by
    ]
    assert needed == [
        ("pool for proxy", "rds"),
        ("query for proxy", "rds"),
        ("features rds", "rds"),
        ("scores rds", "rds"),
        ("scores bm25", "bm25"),
        ("scores bm25", "less", "bm25"),  # found again: the cascade needs it too
        ("kept by bm25", "less"),
        ("warm-up", "less"),
        ("features less", "less"),
        ("scores less", "less"),  # those of the sample are nobody's need
        ("rds round_robin", "rds + round_robin"),
        ("bm25 round_robin", "bm25 + round_robin"),
        ("less round_robin", "less + round_robin"),
    ]
    kept = np.load(next(tmp_path.glob("artifacts/kept-*")) / "kept.npy")
    assert len(kept) == 40
    chosen = result.orderings[2].table()["index"].to_pylist()
    assert set(chosen) <= set(kept.tolist())
    facts = {entry["representation"]: entry for entry in result.record.certificates}
    assert facts["bm25"]["kind"] == "words"
    assert facts["less"]["projection"]
    recall = facts["less"]["cascade"]["recall"]
    assert [entry["rows"] for entry in recall] == [4, 3, 6]  # 12 of 160, 5% and 10% of 60
    assert all(0 <= e["low"] <= e["kept"] / e["rows"] <= e["high"] <= 1 for e in recall)
    assert "bm25" in result.report.read_text()


class Fragile(Featurise):
    """Dies once in the middle of a shard, and runs out of memory on a large batch of another."""

    def __call__(self, number: int) -> dict:
        marker = self.store.path.parent / "killed"
        if number == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number != 1:
            return super().__call__(number)
        plain = Gradients.directions

        def cramped(self, examples, *rest):
            losses = plain(self, examples, *rest)
            if len(examples) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return losses

        Gradients.directions = cramped
        try:
            return super().__call__(number)
        finally:
            Gradients.directions = plain


def test_a_killed_actor_a_broken_row_and_a_full_memory(
    ray_cluster, tmp_path, golden_dir, monkeypatch
):
    """The run ends, the broken row is quarantined, and every other row's feature is what it was."""
    model = shutil.copytree(golden_dir / "less" / "base_model", tmp_path / "model")
    shutil.copytree(golden_dir / "less" / "tokenizer", model, dirs_exist_ok=True)
    rows = builtin.pool_rows(48, 0)
    rows[5]["messages"][0]["content"] += " ~"  # no other row has this token
    pool = tmp_path / "pool.jsonl"
    pool.write_text("\n".join(map(json.dumps, rows)))
    given = {"data__pool": str(pool), "data__max_length": 256, "batch__shard_rows": 12}
    calm, hard = tmp_path / "calm", tmp_path / "hard"
    run(small_study(calm, model__name=str(model), **given), until="featurize")

    poisoned = Path(shutil.copytree(model, tmp_path / "poisoned"))
    weights = load_file(poisoned / "model.safetensors")
    (token,) = load_tokenizer(ModelConfig(name=str(model)))("~", add_special_tokens=False)[
        "input_ids"
    ]
    weights["model.embed_tokens.weight"][token] = float("nan")
    save_file(weights, poisoned / "model.safetensors", metadata={"format": "pt"})
    ray.cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["Fragile"]))
    monkeypatch.setattr(featurize_module, "Featurise", Fragile)
    run(
        small_study(
            hard,
            model__name=str(poisoned),
            less__warmup__checkpoints=warmup(calm),
            compute__actors=2,
            **given,
        ),
        until="featurize",
    )
    assert (hard / "artifacts" / "killed").exists()
    (lost,) = pq.read_table(features(hard).artifact / "quarantine.parquet").to_pylist()
    assert (lost["id"], lost["reason"]) == (rows[5]["id"], "non_finite_loss")
    before, after = by_id(calm), by_id(hard)
    assert before.keys() - after.keys() == {rows[5]["id"]}
    cramped = {row["id"] for row in rows[12:24]}
    for name, feature in after.items():
        if name in cramped:
            assert 1 - (feature * before[name]).sum(axis=1).min() < 1e-6
        else:
            assert np.array_equal(feature, before[name]), name


def test_every_selector_in_one_study(copied, undisturbed):
    """Each equals the pure function on the joined matrix; what each needs is found."""
    names = ["round_robin", "doubly_greedy", "uot", "knn_uniform", "knn_kde", "length_matched"]
    study = small_study(copied, selector=names, seed=[0, 1])
    made = {ordering.name: ordering for ordering in run(study, until="select").orderings}
    assert {*made} == {
        *(f"less-{name}" for name in names[:-1]),
        "less-length_matched-seed-0",
        "less-length_matched-seed-1",
    }
    link = copied / "runs" / "small" / "scores" / "less"
    columns, matrix = np.load(link / "columns.npy"), scores(copied)
    found = features(copied)
    values = np.concatenate([found.read("pool", shard)[0] for shard in range(4)])
    for name in names[:-1]:
        params = {"features": combine(values, found.weights_C)} if name == "knn_kde" else {}
        expected = columns[select(matrix, name, 12, **params).indices]
        assert made[f"less-{name}"].table()["index"].to_pylist() == expected.tolist(), name
    drawn = [made[f"less-length_matched-seed-{seed}"].table() for seed in (0, 1)]
    assert drawn[0]["index"].to_pylist() != drawn[1]["index"].to_pylist()
    assert set(drawn[0]["query_id"].to_pylist()) == {None}
    with pytest.raises(InputError, match="every query has the source"):
        run(small_study(copied, selector="subtask"), until="select")
