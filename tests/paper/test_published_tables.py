"""Every number of the tables computed elsewhere from the paper's files, where those are at hand.

The files are not part of the project. `TIS_RAY_PAPER_DATA` names a folder that holds
`plot_data_tulu/` and `tables_tulu.json`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tis_ray.paper.published import read_published
from tis_ray.paper.tables import all_tables

FOLDER = os.environ.get("TIS_RAY_PAPER_DATA", "")
NEEDED = pytest.mark.skipif(
    not FOLDER, reason="TIS_RAY_PAPER_DATA names no folder with the paper's published results"
)
Pairs = Iterator[tuple[str, Any, Any]]


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return json.loads(json.dumps(all_tables(read_published(Path(FOLDER) / "plot_data_tulu"))))


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    return json.loads((Path(FOLDER) / "tables_tulu.json").read_text())


def leaves(mine: Any, reference: Any, path: str, renamed: dict[str, str]) -> Pairs:
    """Yield (path, ours, theirs) of every number of the reference; ours may hold more."""
    if isinstance(reference, dict):
        for key, value in reference.items():
            name = renamed.get(key, key)
            assert name in mine, f"{path}/{key} is missing"
            yield from leaves(mine[name], value, f"{path}/{key}", renamed)
    elif isinstance(reference, list):
        assert len(mine) == len(reference), path
        for i, value in enumerate(reference):
            yield from leaves(mine[i], value, f"{path}[{i}]", renamed)
    else:
        yield path, mine, reference


def unscoped(table: dict[str, Any]) -> dict[str, Any]:
    return {scope.removeprefix("tulu/"): value for scope, value in table.items()}


VERSUS = {
    "median_diff_vs_rr": "median",
    "wilcoxon_p": "p_value",
    "mean_rel_diff_vs_rr": "relative",
    **{f"mean_diff_vs_{name}": "difference" for name in ("rr", "less")},
    **{
        f"cells_{side}_than_{name}": side for side in ("better", "worse") for name in ("rr", "less")
    },
}
FAMILIES = {
    "representations": "data_representation",
    "selectors": "sel_alg",
    "wins_ties_counted_for_all": "wins",
}
COUNTS = {
    theirs.format(side): ours.format(side)
    for theirs, ours in (
        ("n_abs_exact_crit_0p648_{}", "n_critical_{}"),
        ("n_sig_{}_bh", "n_sig_bh_{}"),
    )
    for side in ("expected", "wrong")
}
GAPS = {
    "tulu/dev": "dev",
    "tulu/test": "test",
    "tulu/true_metric": "true_metric",
    "gap_at_10000_below_gap_at_500": "gap_at_largest_below_gap_at_smallest",
}
MEANS = {"metric_all5": "metric", "metric_excl_mmlu_pro": "metric_without", "llama2": "llama2-7b"}
TABLES = {
    "zero_shot": ("zero_shot", {}),
    "quantile": ("quantile", {}),
    "subquantile_of_q1": ("subquantile_of_q1", {}),
    "quantile_heatmap_spearman": ("quantile_heatmap_spearman", {}),
    "quantile_summary": ("quantile_summary", COUNTS),
    "quantile_paired_representation_comparison": (
        "quantile_paired_representation_comparison",
        {},
    ),
    "budget": ("budget", {}),
    "budget_summary": ("budget_summary", FAMILIES),
    "budget_by_task": ("budget_by_task", {}),
    "selector_vs_rr": ("selector_vs_rr", VERSUS),
    "representation_vs_less": ("representation_vs_less", VERSUS),
    "query_loss_vs_metric_over_budget_grid": ("query_loss_vs_metric_over_budget_grid", {}),
    "query_loss_vs_metric_summary": ("query_loss_vs_metric_summary", {}),
    "best_budget_cell_vs_zero_shot": ("best_budget_cell_vs_zero_shot", {}),
    "seed_noise_mean_sd": ("seed_noise_mean_sd", {}),
    "repeat_noise_q1_vs_budget500_seed0": ("repeat_noise", {}),
    "gap_random_minus_less_rr": ("gap_random_minus_less", {}),
    "gap_shrinks_with_budget_counts": ("gap_shrinks_with_budget_counts", GAPS),
    "budget_mean_metric_excluding_mmlu_pro": ("budget_mean_metric_without", MEANS),
    "zero_shot_means": ("zero_shot_means", MEANS),
}
ELSEWHERE = {"meta", "seed_sd_by_task"}
"""Names of the files; and a mean over both of the paper's pools, which one pool cannot give."""


def pairs_of(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return every number of a reference table with ours, pool and scope names taken off."""
    mine, renamed = TABLES[name]
    table = theirs[name]
    if name == "zero_shot_means":
        table = {key: value for key, value in table.items() if key != "all_models"} | {
            key: value | {"all_models": theirs[name]["all_models"][key]}
            for key, value in table.items()
            if key != "all_models"
        }
    if name != "gap_shrinks_with_budget_counts":
        table = unscoped(table.get("tulu", table))
    return list(leaves(ours[mine], table, name, renamed))


def deviation(mine: Any, reference: Any) -> float:
    if reference is None or isinstance(reference, bool | str):
        return 0.0 if reference is None or mine == reference else math.inf
    return abs(mine - reference) if isinstance(mine, int | float) else math.inf


@NEEDED
def test_no_table_of_the_reference_is_left_out(theirs: dict[str, Any]) -> None:
    assert set(theirs) == set(TABLES) | ELSEWHERE


@NEEDED
@pytest.mark.parametrize("name", TABLES)
def test_every_number_is_reproduced(
    name: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    pairs = pairs_of(name, ours, theirs)
    worst = max(pairs, key=lambda pair: deviation(*pair[1:]))
    print(f"{len(pairs)} numbers, largest deviation {deviation(*worst[1:]):.2g}")  # noqa: T201
    assert deviation(*worst[1:]) < 1e-9, worst
