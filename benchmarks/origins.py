"""How selections of LESS differ by where its checkpoints and moments come from: no warm-up, an adapter, ...

    python -m benchmarks.origins

For each seed a pool and queries of one skill are drawn, and the best rows are taken by round robin: at a
warm-up of four epochs (the standard), at a second one on other rows, at that one's last adapter alone, and
without any. Printed is how much of the standard's subset each finds, and how much of it is the queries'
skill. Rows that are taken at random find budget / pool, and have about one row in 16 of the skill.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from scipy import stats

from benchmarks.lab import encoded, machine, quiet
from tis_ray.batches import collate, needed_length, plan_batches
from tis_ray.data import builtin
from tis_ray.gradients import (
    Sketch,
    adam_direction,
    backward_per_example,
    checkpoint_seed,
    unit_rows,
)
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora, with_adapter
from tis_ray.representations.less.features import checkpoint_weights
from tis_ray.selectors import select
from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
from tis_ray.training.checkpoints import Checkpoint, Moments
from tis_ray.training.loop import train
from tis_ray.training.moments import estimated_moments

SEEDS = range(10, 20)
"""The estimator of moments was chosen on seeds 0 to 9."""
POOL, QUERIES, BUDGET, SHARE, WIDTH = 600, 8, 40, 0.1, 4096
MODEL = ModelConfig()
TRAINING = TrainingConfig(epochs=4, batch_size=16, learning_rate=2e-3)

Rows = list[dict[str, Any]]
Scores = dict[str, np.ndarray]
"""scores_MN of a checkpoint by what stands for a pool row."""


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in SEEDS:
        pool = builtin.pool_rows(POOL, seed=100 + seed)
        skill = builtin.SKILLS[(5 * seed) % len(builtin.SKILLS)]
        queries = builtin.query_rows(skill, QUERIES, seed=100 + seed)
        of_skill = np.array([row["source"] == skill for row in pool])
        chosen = subsets(encoded(MODEL, pool), encoded(MODEL, queries), seed)
        standard = chosen["warm-up (standard)"]
        for name, rows in chosen.items():
            share = len(np.intersect1d(rows, standard)) / BUDGET
            found.setdefault(name, []).append((share, float(of_skill[rows].mean())))
        print(f"  seed {seed} ({skill}, {of_skill.sum()} of {POOL} rows): ", end="", flush=True)
        print(", ".join(f"{values[-1][0]:.2f}/{values[-1][1]:.2f}" for values in found.values()))
    print(
        f"{machine()}\npool {POOL}, {QUERIES} queries, budget {BUDGET}, n = {len(SEEDS)} draws; 95% t intervals"
    )
    for name, values in found.items():
        overlap, skill_share = np.array(values).T
        print(f"  {name:<50} overlap {_interval(overlap)}   skill {_interval(skill_share)}")


def subsets(pool: Rows, queries: Rows, seed: int) -> dict[str, np.ndarray]:
    """Return the rows that each way chooses."""
    rng = np.random.default_rng(seed)
    samples = rng.permutation(POOL).reshape(-1, round(SHARE * POOL))[:2]
    with tempfile.TemporaryDirectory() as folder:
        standard, other = (
            train(
                attach_lora(load_model(MODEL), LoraConfig(), seed=seed + 1000 * number),
                [pool[i] for i in sample],
                TRAINING,
                seed=seed + 1000 * number,
                folder=Path(folder) / str(number),
                keep_all=True,
            )
            for number, sample in enumerate(samples)
        )
        rows = [pool[i] for i in samples[0]]
        scores = {
            "warm-up (standard)": _weighted(standard, pool, queries),
            "a second warm-up, on other rows": _weighted(other, pool, queries),
        }
        adapter = with_adapter(load_model(MODEL), other[-1].adapter, trainable=True)
        origins = {
            "adapter": (adapter, other[-1].moments()),
            "no warm-up": (attach_lora(load_model(MODEL), LoraConfig(), seed=seed), None),
        }
        for name, (model, own) in origins.items():
            moments = {"estimated moments": estimated_moments(model, rows, TRAINING)}
            if own is not None:
                moments["its own moments"] = own
            made = _scores(model, moments, pool, queries, epoch=1)
            scores |= {f"{name}, {kind}": values for kind, values in made.items()}
    return {name: select(each, "round_robin", BUDGET).indices for name, each in scores.items()}


def _weighted(kept: Sequence[Checkpoint], pool: Rows, queries: Rows) -> np.ndarray:
    """Return LESS's scores over the checkpoints of a warm-up."""
    weights_C = checkpoint_weights(kept[-1].steps())
    total: Any = 0.0
    for weight, checkpoint in zip(weights_C, kept, strict=True):
        model = with_adapter(load_model(MODEL), checkpoint.adapter, trainable=True)
        made = _scores(model, {"own": checkpoint.moments()}, pool, queries, checkpoint.epoch)
        total += weight * made["own"]
    return np.asarray(total)


def _scores(
    model: PeftModel, moments: Mapping[str, Moments], pool: Rows, queries: Rows, epoch: int
) -> Scores:
    """Return the scores at one checkpoint, with each of these moments and with plain gradients."""
    sketch = Sketch(WIDTH, checkpoint_seed(0, epoch, False))
    query_MK = _sketched(model, {}, queries, sketch)["plain gradients"]
    made = _sketched(model, moments, pool, sketch)
    return {name: (query_MK @ values_NK.T).numpy() for name, values_NK in made.items()}


def _sketched(
    model: PeftModel, moments: Mapping[str, Moments], rows: Rows, sketch: Sketch
) -> dict[str, torch.Tensor]:
    """Return unit features (E, K): the plain gradients, and Adam's direction by each of these moments."""
    kinds = ["plain gradients", *moments]
    features = {kind: torch.zeros(len(rows), sketch.width) for kind in kinds}
    for members in plan_batches([needed_length(row) for row in rows], None, 4096):
        sums = {kind: sketch.new(len(members), "cpu") for kind in kinds}

        def sink(name: str, grads_E: torch.Tensor, sums: dict[str, Any] = sums) -> None:
            for kind, (first, second) in moments.items():
                sketch.add(sums[kind], name, adam_direction(grads_E, first[name], second[name]))
            sketch.add(sums["plain gradients"], name, grads_E)

        backward_per_example(model, collate([rows[i] for i in members]), sink)
        for kind in kinds:
            features[kind][members] = unit_rows(sketch.finish(sums[kind]))
    return features


def _interval(values: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


if __name__ == "__main__":
    main()
