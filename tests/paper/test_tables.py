"""Tables of a made-up grid whose numbers follow by hand, and of published curves."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.paper.published import write_published
from tis_ray.analysis import Method
from tis_ray.analysis.result_arrays import Labelled, Results
from tis_ray.paper import quantile_tables
from tis_ray.paper.published import read_published
from tis_ray.paper.tables import all_tables

# Published: Llama-2-7B on the Tulu pool, LESS, quantiles 1 to 10.
CODEX_PASS_AT_10 = [
    *(21.62162162162162, 25.0, 25.0, 29.72972972972973, 28.37837837837838),
    *(25.0, 28.37837837837838, 26.351351351351347, 31.756756756756754, 29.72972972972973),
]
SD = math.sqrt(0.0007)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_published(write_published(tmp_path_factory.mktemp("p") / "plot_data", sub=True))


@pytest.fixture(scope="module")
def tables(results: Results) -> dict[str, Any]:
    return json.loads(json.dumps(all_tables(results), allow_nan=False))


def test_budget_is_mean_and_standard_error_over_seeds(tables: dict[str, Any]) -> None:
    cell = tables["budget"]["olmo3-7b"]["codex"]["LESS (RR)"]["1000"]
    assert cell["dev"]["mean"] == pytest.approx(0.7 - 0.1 + 0.01 + 0.1 + 0.5)
    assert cell["dev"]["sd"] == pytest.approx(SD)
    assert cell["dev"]["se"] == pytest.approx(SD / math.sqrt(3))
    assert cell["true_metric"]["mean"] == pytest.approx(100 * (1 - 1.21))
    assert cell["dev"]["values"] == pytest.approx([1.19, 1.2, 1.24])  # seeds 0, 1, 2


def test_heatmap_is_named_as_the_papers_files(tables: dict[str, Any]) -> None:
    heatmap = tables["quantile_heatmap_spearman"]["llama2-7b"]
    assert heatmap["ce_loss"]["LESS (RR)"] == pytest.approx({"bbh": 1.0, "codex": 1.0})
    assert heatmap["true_metric"]["LESS (RR)"]["codex"] == pytest.approx(-1.0)
    assert heatmap["ce_loss"]["EMBED (RR)"]["bbh"] == pytest.approx(-1.0)


def test_differences_ranks_and_wins_follow_from_the_bases(tables: dict[str, Any]) -> None:
    summary = tables["budget_summary"]["all_models"]
    less = summary["data_representation"]["dev"]["agg"]["LESS (RR)"]["500"]
    assert less["minus_random"] == pytest.approx(-0.2)
    assert less["minus_zero_shot"] == pytest.approx(0.7 - 0.05 + 0.01 - 1.0)
    assert (less["cells_better_than_random"], less["n"]) == (4, 4)
    ranks = summary["data_representation"]["true_metric"]["mean_rank"]
    assert {name: by_budget["500"] for name, by_budget in ranks.items()} == {
        "Random": 2.0,
        "EMBED (RR)": 3.0,
        "LESS (RR)": 1.0,
    }
    assert summary["sel_alg"]["dev"]["wins"]["LESS (UOT)"] == {"500": 4, "1000": 4}
    versus = tables["selector_vs_rr"]["all_models"]["dev"]["LESS (UOT)"]["500"]
    assert versus["difference"] == versus["median"] == pytest.approx(-0.05)
    assert (versus["better"], versus["worse"], versus["p_value"]) == (4, 0, 0.125)
    assert tables["representation_vs_less"]["olmo3-7b"]["dev"]["EMBED (RR)"]["1000"][
        "difference"
    ] == pytest.approx(0.25)


def test_losses_and_metrics_of_the_grid_are_one_thing_told_twice(tables: dict[str, Any]) -> None:
    cell = tables["query_loss_vs_metric_over_budget_grid"]["llama2-7b"]["bbh"]
    assert (cell["spearman"], cell["n"]) == (pytest.approx(-1.0), 8)
    assert tables["query_loss_vs_metric_summary"]["n_sig_negative"] == 4
    assert tables["repeat_noise"]["loss_abs_max"] == 0.0  # the same run in both experiments
    assert tables["gap_random_minus_less"]["olmo3-7b"]["bbh"]["dev"]["500"] == pytest.approx(0.2)
    assert tables["seed_sd_by_task"]["dev"] == pytest.approx({"bbh": SD, "codex": SD})
    assert (
        tables["best_budget_cell_vs_zero_shot"]["llama2-7b"]["bbh"]["best_method"] == "LESS (UOT)"
    )


def test_quantile_counts_are_of_the_expected_sign(tables: dict[str, Any]) -> None:
    less, embed = (
        tables["quantile_summary"]["dev"][name]["all"] for name in ("LESS (RR)", "EMBED (RR)")
    )
    assert (less["n_expected_sign"], less["n_holm_expected"], less["n_holm_wrong"]) == (4, 4, 0)
    assert (embed["n_expected_sign"], embed["n_sig_expected"], embed["n_sig_wrong"]) == (0, 0, 4)
    assert (less["n_q1_best"], embed["n_q1_best"]) == (4, 0)
    pair = tables["quantile_paired_representation_comparison"]["dev"]
    assert pair["EMBED (RR)"]["less_stronger"] == 4
    assert pair["EMBED (RR)"]["mean_diff"] == pytest.approx(2.0)
    assert tables["subquantile_of_q1"]["llama2-7b"]["bbh"]["LESS (RR)"]["dev"][
        "slope_per_quantile"
    ] == pytest.approx(0.03)


def test_a_published_curve_with_ties_has_the_published_numbers() -> None:
    found = quantile_tables.curve(CODEX_PASS_AT_10, lower_is_better=False)
    assert found["spearman"] == pytest.approx(0.7223460919122202, abs=1e-12)
    assert found["spearman_p_t"] == pytest.approx(0.018300475648850595, abs=1e-12)
    assert found["kendall"] == pytest.approx(0.565685424949238, abs=1e-12)
    assert found["slope_per_quantile"] == pytest.approx(0.7248157248157246, abs=1e-12)
    assert (found["ties"], found["argmin_quantile"], found["argmax_quantile"]) == (True, 1, 9)
    assert (found["best_quantile"], found["adjacent_increases"]) == (9, 4)


def test_the_pearson_columns_are_scipys() -> None:
    found = quantile_tables.curve(CODEX_PASS_AT_10, lower_is_better=False)
    theirs = stats.pearsonr(range(1, 11), CODEX_PASS_AT_10)
    assert (found["pearson"], found["pearson_p"]) == (theirs.statistic, theirs.pvalue)


def test_a_flat_curve_has_no_correlation_and_breaks_nothing(results: Results) -> None:
    flat = {m: np.full_like(v, 3.0) for m, v in results.quantiles.items()}
    found = all_tables(replace(results, quantiles=flat, subquantiles={}))
    json.dumps(found, allow_nan=False)
    assert found["quantile_heatmap_spearman"]["olmo3-7b"]["ce_loss"]["LESS (RR)"]["bbh"] is None
    assert found["quantile_summary"]["dev"]["LESS (RR)"]["all"] == {"n": 4}


def test_missing_runs_are_left_out_never_averaged(results: Results) -> None:
    runs = {m: v.copy() for m, v in results.runs.items()}
    for values in runs.values():
        values[0, 0, 2, 0] = np.nan  # LESS (RR), bbh, 500: no seed
        values[0, 1, 2, 0, 1:] = np.nan  # and one seed only on codex
    tables = all_tables(replace(results, runs=runs))
    json.dumps(tables, allow_nan=False)
    cell = tables["budget"]["llama2-7b"]
    assert "500" not in cell["bbh"]["LESS (RR)"]
    assert cell["codex"]["LESS (RR)"]["500"]["dev"]["se"] is None
    assert tables["difference_to_random"]["all_models"]["dev"]["LESS (RR)"]["500"]["n"] == 3
    assert tables["budget_summary"]["all_models"]["sel_alg"]["dev"]["n_cells"] == 4


def test_one_cell_is_compared_by_its_seeds(results: Results) -> None:
    one = replace(
        results,
        models=("m",),
        tasks=("bbh",),
        runs={m: v[:1, :1] for m, v in results.runs.items()},
        zero_shot={m: v[:1, :1] for m, v in results.zero_shot.items()},
        quantiles={},
        subquantiles={},
        scopes={"m": (0,)},
    )
    tables = all_tables(one)
    found = tables["difference_to_random"]["m"]["dev"]["LESS (RR)"]["500"]
    assert (found["pairs"], found["n"], found["difference"]) == ("seeds", 3, pytest.approx(-0.2))
    zero = tables["difference_to_zero_shot"]["m"]["dev"]["LESS (RR)"]["500"]
    assert zero["difference"] == pytest.approx(0.66 - 1.0)
    assert zero["high"] - zero["low"] == pytest.approx(2 * stats.t.ppf(0.975, 2) * SD / 3**0.5)
    assert "quantile" not in tables


@pytest.mark.parametrize(
    ("methods", "families"),
    [
        ([("LESS", "RR"), ("RDS+", "RR")], {"data_representation": (0, 1, 2)}),
        (
            [("LESS", "RR"), ("LESS", "UOT"), ("RDS+", "RR"), ("RDS+", "UOT")],
            {
                "data_representation": (0, 1, 3),
                "sel_alg_LESS": (0, 1, 2),
                "sel_alg_RDS+": (0, 3, 4),
            },
        ),
        ([("LESS", "RR"), ("RDS+", "UOT")], {"data_representation": (0, 1, 2)}),
        ([], {"data_representation": (0,)}),
    ],
)
def test_no_method_is_in_no_family(
    results: Results, methods: list[tuple[str, str]], families: dict[str, tuple[int, ...]]
) -> None:
    named = tuple(Labelled(Method(r, s), f"{r} ({s})", r) for r, s in methods)
    found = replace(
        results, methods=(Labelled(Method("Random"), "Random", "Random"), *named)
    ).families()
    assert {family.name: family.methods for family in found} == families


def test_runs_that_are_missing_everywhere_and_a_single_bin_are_no_warnings(
    results: Results,
) -> None:
    """Of a method without any result at a budget, and of a curve of one point, nothing is said."""
    runs = {name: values.copy() for name, values in results.runs.items()}
    for values in runs.values():
        values[:, :, 1, 0] = np.nan
    short = {name: values[..., :1] for name, values in results.quantiles.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables = all_tables(replace(results, runs=runs, quantiles=short, subquantiles={}))
    json.dumps(tables, allow_nan=False)
    curve = tables["quantile"][results.models[0]][results.tasks[0]]["LESS (RR)"]["dev"]
    assert curve["slope_per_quantile"] is None
