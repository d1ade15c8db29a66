"""By simulation: what intervals hold, and how often a verdict is given where nothing differs.

Runs of S seeds on R rows: a value is the row's level + the luck of the subset (the same in all seeds for a
method, new in each for random) + its luck on the row + training's noise + training's on the row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tis_ray.analysis.comparison import (
    method_against_method,
    method_against_random,
    models_against_one,
    subset_against_random,
    subset_against_subset,
)
from tis_ray.analysis.samples import Sample
from tis_ray.metrics.description import describe

LOSS, SHARE = describe("test_loss"), describe("exact_match")
REPEATS = 1200


@dataclass
class World:
    """Standard deviations of the parts."""

    luck: float = 1.0
    luck_on_row: float = 1.0
    training: float = 0.6
    training_on_row: float = 1.0
    level: float = 2.0

    def runs(self, rng, level_R, seeds, fixed):
        subsets, rows = 1 if fixed else seeds, len(level_R)
        return (
            level_R
            + rng.normal(0, self.luck, (subsets, 1))
            + rng.normal(0, self.luck_on_row, (subsets, rows))
            + rng.normal(0, self.training, (seeds, 1))
            + rng.normal(0, self.training_on_row, (seeds, rows))
        )


WORLDS = {
    "luck": World(),
    "training": World(luck=0.3, training=1.0),
    "rows": World(luck=0.1, luck_on_row=3, training=0.1, training_on_row=3, level=3),
    "mixed": World(luck_on_row=5, training=1, training_on_row=5, level=5),
}


def sample(values_SR, share=False):
    if share:
        values_SR = (values_SR > 0).astype(float)
    return Sample(dict(enumerate(values_SR.mean(axis=1).tolist())), values_SR, share)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_random_subsets_are_called_better_or_worse_in_at_most_5_of_100(seeds, world, share) -> None:
    rng, called = np.random.default_rng(seeds), 0
    for _ in range(REPEATS):
        level_R = rng.normal(0, WORLDS[world].level, 100)
        method = sample(WORLDS[world].runs(rng, level_R, seeds, True), share)
        random = sample(WORLDS[world].runs(rng, level_R, seeds, False), share)
        metric = SHARE if share else LOSS
        called += subset_against_random(method, random, metric=metric).decided
    assert called / REPEATS <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / REPEATS)


def test_the_luck_of_a_subset_is_not_in_paired_differences() -> None:
    """What the field does: the reason for all this."""
    rng, called = np.random.default_rng(0), 0
    for _ in range(REPEATS):
        level_R = rng.normal(0, 2, 100)
        method, random = (
            WORLDS["luck"].runs(rng, level_R, 10, fixed).mean(axis=1) for fixed in (True, False)
        )
        difference = method - random
        error = difference.std(ddof=1) / np.sqrt(10)
        called += abs(difference.mean()) > 2.262 * error
    assert called / REPEATS > 0.3


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("seeds", "rows"), [(3, 20), (3, 100), (5, 20), (5, 100)])
def test_means_hold_the_truth_in_95_of_100(seeds, rows, world) -> None:
    """The mean over all seeds and all rows of the kind, random's subsets included."""
    rng, held = np.random.default_rng(seeds * rows), 0
    for _ in range(REPEATS):
        level_R = rng.normal(0, WORLDS[world].level, rows)
        found = sample(WORLDS[world].runs(rng, level_R, seeds, False)).mean()
        held += found.low <= 0 <= found.high
    assert 0.935 - 0.0063 <= held / REPEATS <= 0.965 + 0.0105  # 95 +- 1.5, and noise of 1,200


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_new_random_subset_lies_in_the_prediction_interval_in_95_of_100(seeds) -> None:
    rng, held = np.random.default_rng(seeds), 0
    for _ in range(4 * REPEATS):
        random = rng.normal(0, 1, seeds + 1)
        method = Sample({0: float(rng.normal(0, 5))})
        found = subset_against_random(method, Sample(dict(enumerate(random[1:]))), metric=LOSS)
        held += found.low <= method.mean_value - random[0] <= found.high
    assert 0.935 <= held / (4 * REPEATS) <= 0.965


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("parts", ["halves", "folds"])
def test_random_methods_are_called_better_or_worse_in_at_most_5_of_100_by_draws(parts, seeds):
    """A method that ranks at random, its draws from real halves or folds of one pool."""
    rng, called, pairs = np.random.default_rng(seeds), 0, 0
    pool, budget = 600, 32
    for _ in range(REPEATS):
        worth_N = rng.normal(0, np.sqrt(budget), pool)
        drawn = []
        for _ in range(2):
            order = rng.permutation(pool)
            kept = [
                rng.permutation(pool)[: pool // 2]
                if parts == "halves"
                else np.arange(fold, pool, seeds)
                for fold in range(seeds)
            ]
            means = [worth_N[order[np.isin(order, keep)][:budget]].mean() for keep in kept]
            drawn.append(Sample(dict(enumerate(means + rng.normal(0, 0.5, seeds)))))
        means = [worth_N[rng.permutation(pool)[:budget]].mean() for _ in range(seeds)]
        random = Sample(dict(enumerate(means + rng.normal(0, 0.5, seeds))))
        apart = parts == "folds"
        called += method_against_random(drawn[0], random, metric=LOSS, apart=apart).decided
        pairs += method_against_method(*drawn, metric=LOSS, apart=apart).decided
    most = 0.05 + 2 * np.sqrt(0.05 * 0.95 / REPEATS)
    assert called / REPEATS <= most
    assert pairs / REPEATS <= most


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_two_random_subsets_are_told_apart_in_at_most_5_of_100(seeds) -> None:
    rng, called = np.random.default_rng(seeds), 0
    world = WORLDS["luck"]
    for _ in range(REPEATS):
        level_R = rng.normal(0, 2, 50)
        left, right, random = (
            sample(world.runs(rng, level_R, seeds, fixed)) for fixed in (True, True, False)
        )
        called += subset_against_subset(left, right, random, metric=LOSS).decided
    assert called / REPEATS <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / REPEATS)


@pytest.mark.parametrize("seeds", [3, 5])
def test_training_that_changes_nothing_is_called_so_in_at_most_5_of_100(seeds) -> None:
    """Against the untrained model: other seeds and other rows."""
    rng, called = np.random.default_rng(seeds), 0
    for _ in range(REPEATS):
        level_R = rng.normal(0, 2, 50)
        changed_R = rng.normal(0, 1, 50)
        noise_SR = rng.normal(0, 0.3, (seeds, 1)) + rng.normal(0, 0.5, (seeds, 50))
        trained = sample(level_R + changed_R + noise_SR)
        called += models_against_one(trained, sample(level_R[None]), metric=LOSS).decided
    assert called / REPEATS <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / REPEATS)


@pytest.mark.parametrize("kind", ["subset", "method", "pair"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_what_differs_by_the_margin_is_called_alike_in_at_most_5_of_100(seeds, kind) -> None:
    rng, alike = np.random.default_rng(seeds), 0
    for _ in range(2 * REPEATS):
        luck = 0.004

        def runs(truth, spread=luck):
            return Sample(dict(enumerate((truth + rng.normal(0, spread, seeds)).tolist())))

        margin, random = LOSS.margin, runs(1.0)
        if kind == "subset":
            own = 1.0 + margin + rng.normal(0, luck)
            found = subset_against_random(runs(own, 0.001), random, metric=LOSS)
        elif kind == "method":
            found = method_against_random(runs(1.0 + margin), random, metric=LOSS)
        else:
            left, right = (base + rng.normal(0, luck) for base in (1.0 + margin, 1.0))
            sides = runs(left, 0.001), runs(right, 0.001)
            found = subset_against_subset(*sides, random, metric=LOSS)
        alike += found.verdict == "alike"
    assert alike / (2 * REPEATS) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / (2 * REPEATS))
