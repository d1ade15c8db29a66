"""Cells as tables, and two methods against each other, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tis_ray.analysis import Cell, Legend, Method, summarise
from tis_ray.analysis.study_values import RANDOM_METHOD
from tis_ray.errors import InputError
from tis_ray.interactive.results import cell_table, compared_table, method_name, result_table

LESS, RDS = Method("less", "round_robin"), Method("rds", "round_robin")
LOSSES = {LESS: (1.0, 1.2, 0.9), RDS: (1.4, 1.3, 1.5), RANDOM_METHOD: (1.5, 1.6, 1.4)}


def _cells(shift: float = 0.0) -> list[Cell]:
    trained = [
        Cell(method, 100, seed, {"test_loss": loss + shift})
        for method, losses in LOSSES.items()
        for seed, loss in enumerate(losses)
    ]
    return [Cell(Method("zero_shot"), metrics={"test_loss": 2.0}), *trained]


def test_a_cell_is_a_row() -> None:
    table = cell_table({"s": _cells()}, "cells")
    assert len(table) == 10
    assert table["method"][:2] == ["zero_shot", "less+round_robin"]
    assert table["seed"][:3] == [None, 0, 1]
    assert table["test_loss"][1] == 1.0


def test_two_methods_are_paired_by_seed() -> None:
    table = compared_table({"s": _cells()}, LESS, RDS, Legend())
    differences = np.subtract(LOSSES[LESS], LOSSES[RDS])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    assert table["difference"] == pytest.approx([differences.mean()])
    assert table["difference_low"] == pytest.approx([differences.mean() - half])
    assert table["p_value"] == pytest.approx([stats.ttest_1samp(differences, 0).pvalue])
    assert table["pairs"] == ["seeds"]
    assert table["less+round_robin"] == pytest.approx([np.mean(LOSSES[LESS])])


def test_a_seed_that_only_one_method_ran_is_no_pair() -> None:
    cells = [cell for cell in _cells() if (cell.method, cell.seed) != (RDS, 2)]
    assert compared_table({"s": cells}, LESS, RDS, Legend())["n"] == [2]


def test_several_studies_are_paired_by_study() -> None:
    studies = {f"task-{i}": _cells(shift) for i, shift in enumerate((0.0, 0.5, -0.2))}
    table = compared_table(studies, LESS, RDS, Legend())
    assert table["pairs"] == ["studies"]
    assert table["n"] == [3]
    assert table["difference"] == pytest.approx([np.mean(np.subtract(LOSSES[LESS], LOSSES[RDS]))])


def test_zero_shot_is_compared_with_every_seed() -> None:
    table = compared_table({"s": _cells()}, LESS, Method("zero_shot"), Legend())
    assert table["n"] == [3]
    assert table["difference"] == pytest.approx([np.mean(LOSSES[LESS]) - 2.0])


def test_results_agree_with_the_reports() -> None:
    rows = summarise(_cells())
    table = result_table({"s": rows}, "results")
    found = dict(zip(table["method"], table["difference"], strict=True))
    mean = np.mean(np.subtract(LOSSES[LESS], LOSSES[RANDOM_METHOD]))
    assert found["less+round_robin"] == pytest.approx(mean)
    assert found["zero_shot"] is None


@pytest.mark.parametrize(
    ("method", "name"),
    [(LESS, "less+round_robin"), (RANDOM_METHOD, "random"), (Method("zero_shot"), "zero_shot")],
)
def test_names(method: Method, name: str) -> None:
    assert method_name(method) == name


def test_methods_without_a_pair_are_refused() -> None:
    with pytest.raises(InputError, match="have no budget"):
        compared_table({"s": _cells()[:1]}, Method("zero_shot"), Method("zero_shot"), Legend())
