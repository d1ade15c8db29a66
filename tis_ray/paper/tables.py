"""All tables of some results, by name: what `tis-ray analyze` writes as `tables.json`."""

from __future__ import annotations

from typing import Any

from tis_ray.analysis.result_arrays import Results
from tis_ray.paper import budget_tables, noise_tables, quantile_tables


def all_tables(results: Results) -> dict[str, Any]:
    """Return every table as plain JSON values. Keys are names of the results; budgets are strings.

    Two are the numbers behind the paper's figures:
    `quantile_heatmap_spearman[model]["ce_loss" | "true_metric"][representation][task]` and
    `budget[model][task][method][budget]["dev" | "true_metric"]["mean" | "se" | "sd" | "values"]`.
    The modules that make them say what the others hold. Tables of quantile curves, and those that
    compare with LESS, are left out where the results have none.
    """
    grid, summary = noise_tables.loss_against_metric_table(results)
    tables: dict[str, Any] = {
        "meta": _meta(results),
        "zero_shot": budget_tables.zero_shot_table(results),
        "budget": budget_tables.budget_table(results),
        "budget_summary": budget_tables.summary_table(results),
        "budget_by_task": budget_tables.task_table(results),
        **budget_tables.comparison_tables(results),
        "query_loss_vs_metric_over_budget_grid": grid,
        "query_loss_vs_metric_summary": summary,
        "best_budget_cell_vs_zero_shot": noise_tables.best_table(results),
        "seed_noise_mean_sd": noise_tables.seed_noise_table(results),
        "seed_sd_by_task": noise_tables.seed_sd_table(results),
        "zero_shot_means": noise_tables.zero_shot_means_table(results, results.doubtful_tasks),
    }
    if results.doubtful_tasks:
        tables["budget_mean_metric_without"] = noise_tables.means_without_table(
            results, results.doubtful_tasks
        )
    less = results.families()[0].reference
    if less is not None:
        gaps, counts = noise_tables.gap_tables(results, results.methods[less].name)
        tables |= {"gap_random_minus_less": gaps, "gap_shrinks_with_budget_counts": counts}
    if results.quantiles:
        curves = quantile_tables.curve_tables(results)
        tables |= {
            "quantile": curves,
            "quantile_heatmap_spearman": quantile_tables.heatmap_table(results, curves),
            "quantile_summary": quantile_tables.summary_table(results, curves),
            "repeat_noise": noise_tables.repeat_noise_table(results),
        }
        if less is not None and results.methods[less].name in results.representations:
            tables["quantile_paired_representation_comparison"] = quantile_tables.pairwise_table(
                results, curves, results.methods[less].name
            )
    if results.subquantiles:
        tables["subquantile_of_q1"] = quantile_tables.subcurve_tables(results)
    return tables


def _meta(results: Results) -> dict[str, Any]:
    """Return the names that the other tables use as keys, and what the measures are."""
    return {
        "name": results.name,
        "models": list(results.models),
        "tasks": list(results.tasks),
        "methods": [method.name for method in results.methods],
        "representations": list(results.representations),
        "budgets": list(results.budgets),
        "seeds": list(results.seeds),
        "scopes": {name: [results.models[i] for i in s] for name, s in results.scopes.items()},
        "families": {
            family.name: [results.methods[a].name for a in family.methods]
            for family in results.families()
        },
        "measures": {
            m.name: {"words": m.words, "lower_is_better": m.lower_is_better}
            for m in results.metrics
        },
        "left_out": list(results.doubtful_tasks),
    }
