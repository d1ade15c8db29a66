"""`tis-ray recommend` in words: which method, and what it would cost at the pilot's speed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.report.conftest import LEGEND
from tests.report.test_gains_section import stage
from tis_ray.analysis import Cell, Method
from tis_ray.analysis.comparison import turned
from tis_ray.analysis.study_values import POOL
from tis_ray.errors import InputError
from tis_ray.report import StudyRecord
from tis_ray.report.formatting import decimals, with_ends
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


def renamed(folder, other, name, **changes):
    """Leave a copy of a run folder's study under another name."""
    record = replace(StudyRecord.load(folder / "report" / "record.json"), name=name, **changes)
    record.save(other / "report" / "record.json")
    return other


def test_a_study_given_twice_is_not_two_tasks(pilot, tmp_path):
    folder = pilot()
    record = StudyRecord.load(folder / "report" / "record.json")
    record.cells = [replace(cell, fingerprint=f"{i}") for i, cell in enumerate(record.cells)]
    record.save(folder / "report" / "record.json")
    same_place = folder / "report" / ".."
    with pytest.raises(InputError, match="another folder holds a study `pilot` too"):
        list(advice([folder, same_place], 100, None, "test_loss"))
    with pytest.raises(InputError, match="`pilot` and `copy` hold the same runs"):
        list(advice([folder, renamed(folder, tmp_path / "copy", "copy")], 100, None, "test_loss"))


def test_pilots_of_other_models_or_other_readings_of_a_metric_are_refused(pilot, tmp_path):
    folder = pilot(config={"model": {"name": "small"}})
    large = renamed(folder, tmp_path / "b", "b", config={"model": {"name": "large"}})
    with pytest.raises(InputError, match="pilot trained small, b trained large"):
        list(advice([folder, large], 100, None, "test_loss"))
    metrics = {"test_loss": replace(LEGEND.metric("test_loss"), lower_is_better=False)}
    other = renamed(folder, tmp_path / "c", "c", legend=replace(LEGEND, metrics=metrics))
    told = renamed(
        folder,
        tmp_path / "d",
        "d",
        legend=replace(LEGEND, metrics={"test_loss": LEGEND.metric("test_loss")}),
    )
    with pytest.raises(InputError, match="read it in two ways"):
        list(advice([told, other], 100, None, "test_loss"))


def test_the_digits_are_those_of_the_page(pilot):
    """However small the metric: no gain of 0.000 [0.000, 0.000] is recommended."""
    folder = pilot()
    record = StudyRecord.load(folder / "report" / "record.json")
    for cell in record.cells:
        cell.metrics["test_loss"] /= 10_000
    record.save(folder / "report" / "record.json")
    (row,) = (r for r in record.table() if (r.method, r.budget) == (Method("less", "uot"), 100))
    metric = row.metrics["test_loss"].about
    versus = turned(row.metrics["test_loss"].vs_random)
    shown = with_ends(metric, versus, decimals(record.table(), metric), signed=True)
    assert "0.0000" in shown
    assert f"expected gain over random {shown} test loss" in next(
        advice([folder], 100, None, "test_loss")
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda cell: cell.seed == 0,
            "one seed says nothing of the luck of a subset; a pilot of 3",
        ),
        (
            lambda cell: cell.metrics.update(test_loss=0.5) or True,
            "no pilot would tell: there is no gain",
        ),
        (
            lambda cell: (
                cell.metrics.update(test_loss=0.5 - 0.1 * (cell.method.selector == "uot")) or True
            ),
            "random came to the same test loss in all seeds",
        ),
    ],
)
def test_nothing_is_promised_where_nothing_is_known_of_luck(pilot, change, said):
    folder = pilot()
    record = StudyRecord.load(folder / "report" / "record.json")
    record.cells = [cell for cell in record.cells if change(cell)]
    record.save(folder / "report" / "record.json")
    for budget in (100, 75):
        first, second, *_ = advice([folder], budget, None, "test_loss")
        assert first.startswith(f"cannot tell at {budget}")
        assert second.startswith(said)
