"""`tis-ray recommend` in words: which method, and what it would cost at the pilot's speed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.report.conftest import LEGEND
from tests.report.test_gains_section import stage
from tis_ray.analysis import Cell, Method
from tis_ray.analysis.study_values import POOL
from tis_ray.errors import InputError
from tis_ray.report import StudyRecord
from tis_ray.report.recommendation import advice


@pytest.fixture
def pilot(tmp_path):
    """Return a function that leaves a run folder in which LESS gains and RDS+ does not."""
    rng = np.random.default_rng(0)
    losses = {("random", "random"): 1.0, ("less", "uot"): 0.5, ("rds", "uot"): 1.0}

    def leave(**more):
        record = StudyRecord(
            name="pilot",
            cells=[
                Cell(
                    Method(r, s),
                    budget,
                    seed,
                    {"test_loss": loss + 0.01 * rng.standard_normal()},
                    train_rows=budget,
                    seconds_train=0.1 * budget,
                )
                for (r, s), loss in losses.items()
                for budget in (50, 100)
                for seed in range(4)
            ],
            stages=[
                stage("pool", 1000.0),
                stage("warm-up", 20.0, "less"),
                stage("features less", 40.0, "less"),
                stage("features rds", 900.0, "rds"),
                stage("scores less", 1.0, "less"),
                stage("less uot", 500.0, "less + uot"),
            ],
            legend=LEGEND,
            composition={POOL: {"a": 600, "b": 400}},
            **more,
        )
        record.save(tmp_path / "report" / "record.json")
        return tmp_path

    return leave


def test_the_method_that_gains_is_named_with_its_price(pilot):
    first, *_ = lines = list(advice([pilot()], 200, 10_000, "test_loss"))
    assert first.startswith("use LESS + UOT at 200: expected gain over random +0.5")
    (price,) = [line for line in lines if line.startswith("price")]
    # Ten times the pool: warm-up, features and scores of LESS grow, and nothing of another method.
    assert "10 min of stage time to select from 10,000 rows, 20 s to train on 200 once" in price
    assert any(line.strip().startswith("RDS+ + UOT") for line in lines)


def test_what_the_pilot_found_in_the_store_is_lacking_in_the_price(pilot):
    folder = pilot()
    record = StudyRecord.load(folder / "report" / "record.json")
    record.stages[2] = replace(record.stages[2], computed=5)
    record.save(folder / "report" / "record.json")
    text = "\n".join(advice([folder], 200, 10_000, "test_loss"))
    assert "at least 10 min of stage time" in text


def test_budgets_beyond_the_pool_or_in_tokens_are_refused(pilot):
    with pytest.raises(InputError, match="2,000 exceeds the pool of 1,000 rows"):
        list(advice([pilot()], 2000, None, "test_loss"))
    with pytest.raises(InputError, match="budgets count examples"):
        list(advice([pilot(budget_unit="tokens")], 100, None, "test_loss"))
