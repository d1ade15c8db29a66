"""Cells as tables, and two methods against each other, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tis_ray.analysis import Cell, Legend, Method, summarise
from tis_ray.analysis.study_values import RANDOM_METHOD
from tis_ray.errors import InputError
from tis_ray.interactive.results import cell_table, compared_table, result_table

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


def test_two_methods_are_judged_by_the_luck_of_random_subsets() -> None:
    table = compared_table({"s": _cells()}, LESS, RDS, Legend())
    difference = np.mean(LOSSES[LESS]) - np.mean(LOSSES[RDS])
    luck = np.std(LOSSES[RANDOM_METHOD], ddof=1) * np.sqrt(2)
    half = stats.t.ppf(0.975, 2) * luck
    assert table["difference"] == pytest.approx([difference])
    assert table["difference_low"] == pytest.approx([difference - half])
    assert table["p_value"] == pytest.approx([2 * stats.t.sf(abs(difference) / luck, 2)])
    assert table["about"] == ["subset"]
    assert table["less+round_robin"] == pytest.approx([np.mean(LOSSES[LESS])])


def test_draws_make_it_a_question_about_the_methods() -> None:
    drawn = [
        Cell(method, 100, 0, {"test_loss": loss}, draw=draw)
        for method in (LESS, RDS)
        for draw, loss in enumerate(LOSSES[method])
    ]
    table = compared_table({"s": [*_cells(), *drawn]}, LESS, RDS, Legend())
    differences = np.subtract(LOSSES[LESS], LOSSES[RDS])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) * np.sqrt(1 + 1 / 3)
    assert table["about"] == ["method"]
    assert table["difference_low"] == pytest.approx([differences.mean() - half])


@pytest.mark.parametrize("other", [RDS, RANDOM_METHOD, Method("zero_shot")])
@pytest.mark.parametrize("draws", [False, True])
def test_the_difference_is_that_of_the_means_beside_it(other: Method, draws: bool) -> None:
    """Also where a method lacks a seed, and where it is about draws."""
    cells = [cell for cell in _cells() if (cell.method, cell.seed) != (LESS, 1)]
    if draws:
        cells += [
            Cell(method, 100, 0, {"test_loss": loss + 0.1 * draw}, draw=draw)
            for method in (LESS, RDS)
            for draw, loss in enumerate(LOSSES[method])
        ]
    table = compared_table({"s": cells}, LESS, other, Legend())
    left, right = (table[method.asked][0] for method in (LESS, other))
    assert table["difference"] == pytest.approx([left - right])


def test_a_seed_that_only_one_method_ran_counts_in_its_mean_over_studies_only_if_both_have_it() -> (
    None
):
    studies = {f"task-{i}": _cells(shift) for i, shift in enumerate((0.0, 0.5, -0.2))}
    studies["task-0"] = [c for c in studies["task-0"] if (c.method, c.seed) != (RDS, 2)]
    table = compared_table(studies, LESS, RDS, Legend())
    shared = np.mean(np.subtract(LOSSES[LESS][:2], LOSSES[RDS][:2]))
    whole = np.mean(np.subtract(LOSSES[LESS], LOSSES[RDS]))
    assert table["difference"] == pytest.approx([np.mean([shared, whole, whole])])


def test_several_studies_are_paired_by_study() -> None:
    studies = {f"task-{i}": _cells(shift) for i, shift in enumerate((0.0, 0.5, -0.2))}
    table = compared_table(studies, LESS, RDS, Legend())
    assert table["about"] == ["studies"]
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


def test_results_say_of_the_method_what_its_draws_say() -> None:
    drawn = [
        Cell(LESS, 100, 0, {"test_loss": loss}, draw=draw)
        for draw, loss in enumerate((1.1, 1.3, 1.0))
    ]
    rows = summarise([*_cells(), *drawn])
    table = result_table({"s": rows}, "results")
    found = dict(zip(table["method"], table["method_difference"], strict=True))
    assert found["less+round_robin"] == pytest.approx(np.mean([1.1, 1.3, 1.0]) - 1.5)
    assert found["rds+round_robin"] is None
    assert "method_verdict" in table.columns
    assert "method_verdict" not in result_table({"s": summarise(_cells())}, "results").columns


@pytest.mark.parametrize(
    ("method", "name"),
    [(LESS, "less+round_robin"), (RANDOM_METHOD, "random"), (Method("zero_shot"), "zero_shot")],
)
def test_names(method: Method, name: str) -> None:
    assert method.asked == name


def test_methods_without_a_pair_are_refused() -> None:
    with pytest.raises(InputError, match="have no budget"):
        compared_table({"s": _cells()[:1]}, Method("zero_shot"), Method("zero_shot"), Legend())
