"""Parts of a doubt, and what is promised of more runs and rows."""

from __future__ import annotations

import numpy as np
import pytest

from tis_ray.analysis.comparison import models_against_one, subset_against_random
from tis_ray.analysis.doubts import doubt
from tis_ray.analysis.samples import Sample
from tis_ray.metrics.description import describe

LOSS = describe("test_loss")


def sample(rows_SR):
    return Sample(dict(enumerate(rows_SR.mean(axis=1).tolist())), rows_SR)


def test_the_parts_make_the_whole() -> None:
    rng = np.random.default_rng(0)
    found = subset_against_random(
        sample(rng.normal(0, 1, (4, 30))), sample(rng.normal(0, 1, (4, 30))), metric=LOSS
    )
    told = doubt(found)
    assert told.whole == pytest.approx((found.high - found.low) / 2)
    assert told.whole == pytest.approx(np.hypot(told.luck, told.rows))
    assert told.more_runs < told.whole
    assert told.more_rows < told.whole
    assert told.more_rows > told.luck


def test_twice_the_runs_and_four_times_the_rows_do_what_is_promised() -> None:
    """The same spread, as if seen in more runs: exactly; on average of many worlds with more rows."""
    values = [0.9, 1.1, 1.0, 1.2]
    here = subset_against_random(Sample({0: 2.0}), Sample(dict(enumerate(values))), metric=LOSS)
    there = subset_against_random(
        Sample({0: 2.0}), Sample(dict(enumerate([*values, *values]))), metric=LOSS
    )
    shrunk = np.var([*values, *values], ddof=1) / np.var(values, ddof=1)  # the same values twice
    assert doubt(here).more_runs * np.sqrt(shrunk) == pytest.approx(doubt(there).whole)
    assert doubt(here).rows is None
    rng = np.random.default_rng(1)
    promised, kept = [], []
    for _ in range(200):
        trained = rng.normal(0, 1, 80) + rng.normal(0, 0.1, (3, 80))
        untrained = np.zeros((1, 80))
        few = models_against_one(sample(trained[:, :20]), sample(untrained[:, :20]), metric=LOSS)
        many = models_against_one(sample(trained), sample(untrained), metric=LOSS)
        promised.append(doubt(few).more_rows)
        kept.append(many.spread.half())
    assert np.mean(promised) == pytest.approx(np.mean(kept), rel=0.05)


def test_without_an_interval_there_is_nothing_to_say() -> None:
    assert doubt(subset_against_random(Sample({0: 1.0}), Sample({0: 2.0}), metric=LOSS)) is None
