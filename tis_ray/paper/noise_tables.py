"""Tables of seed noise, of repeated runs, and of how well the loss stands for the metric.

How much do seeds differ; how much does the same run differ when it is trained again; does a method
with a lower query loss have a better metric; does selection's gain over random shrink with the
budget?
"""

from __future__ import annotations

import numpy as np

from tis_ray.analysis.correlation import spearman
from tis_ray.analysis.intervals import CONFIDENCE
from tis_ray.analysis.result_arrays import Results, sd_over_last
from tis_ray.paper.budget_tables import Table, plain


def seed_noise_table(results: Results) -> Table:
    """Return model → task → measure → method → standard deviation over seeds, mean over budgets."""
    table: Table = {}
    for i, model in enumerate(results.models):
        for j, task in enumerate(results.tasks):
            table.setdefault(model, {})[task] = {
                measure: {
                    method.name: _mean(sd_over_last(values_LJABS[i, j, a]))
                    for a, method in enumerate(results.methods)
                }
                for measure, values_LJABS in results.runs.items()
            }
    return table


def seed_sd_table(results: Results) -> Table:
    """Return measure → task → mean standard deviation over seeds: all methods, and random alone."""
    table: Table = {}
    for measure, values_LJABS in results.runs.items():
        sd_LJAB = sd_over_last(values_LJABS)
        table[measure] = {task: _mean(sd_LJAB[:, j]) for j, task in enumerate(results.tasks)}
        table[f"{measure}_random"] = {
            task: _mean(sd_LJAB[:, j, 0]) for j, task in enumerate(results.tasks)
        }
    return table


def repeat_noise_table(results: Results) -> Table | None:
    """Return how much the same subset and seed differ when trained twice; None where none were.

    The first quantile's rows are those of the smallest budget, and its seed is the first: two runs
    of the same training, whose difference is what hardware and sampling alone make.
    """
    if not results.first_quantile_repeats:
        return None
    names = {r: results.position(r) for r in results.representations}
    kept = [(k, a) for k, a in enumerate(names.values()) if a is not None]
    if not kept:
        return None
    differences = {
        measure: np.abs(
            [
                results.quantiles[measure][:, :, k, 0] - results.runs[measure][:, :, a, 0, 0]
                for k, a in kept
            ]
        )
        for measure in (results.loss, results.metric)
    }
    known = np.all([np.isfinite(found) for found in differences.values()], axis=0)
    if not known.any():
        return None
    table: Table = {"n": int(known.sum())}
    for name, every in zip(("loss", "metric"), differences.values(), strict=True):
        found = every[known]
        table |= {
            f"{name}_abs_median": float(np.median(found)),
            f"{name}_abs_p95": float(np.percentile(found, 95)),  # linear between ranks
            f"{name}_abs_max": float(found.max()),
        }
    return table


def loss_against_metric_table(results: Results) -> tuple[Table, Table]:
    """Return Spearman between the loss and metric means of all methods and budgets, cell by cell.

    The second table sums up: mean ρ, cells significantly negative (what one hopes for, where a
    higher metric is better) and positive by Student's t, and the mean by task.
    """
    loss_LJAB, metric_LJAB = (results.means(m) for m in (results.loss, results.metric))
    table: Table = {}
    for i, model in enumerate(results.models):
        for j, task in enumerate(results.tasks):
            loss, metric = loss_LJAB[i, j].ravel(), metric_LJAB[i, j].ravel()
            both = np.isfinite(loss) & np.isfinite(metric)
            found = spearman(loss[both].tolist(), metric[both].tolist())
            table.setdefault(model, {})[task] = {
                "spearman": found.rho,
                "p": found.p_t,
                "p_permutation": found.p_value,
                "low": found.low,
                "high": found.high,
                "n": found.n,
            }
    cells = [c for by_task in table.values() for c in by_task.values() if c["p"] is not None]
    called = [c for c in cells if c["p"] < 1 - CONFIDENCE]
    summary: Table = {
        "mean": float(np.mean([c["spearman"] for c in cells])) if cells else None,
        "n_sig_negative": sum(c["spearman"] < 0 for c in called),
        "n_sig_positive": sum(c["spearman"] > 0 for c in called),
        "by_task": {
            task: _mean(
                np.array([plain_or_nan(table[m][task]["spearman"]) for m in results.models])
            )
            for task in results.tasks
        },
    }
    return table, summary


def gap_tables(results: Results, method: str) -> tuple[Table, Table]:
    """Return random's mean minus the method's by cell and budget, and whether the gain shrinks.

    Counts are of the gain, which is the gap turned so that positive is good: in how many cells it
    falls with the budget (ρ below 0), and in how many it is smaller at the largest budget than at
    the smallest.
    """
    a = results.position(method)
    assert a is not None, "callers name a method that was run"
    table: Table = {}
    counts: Table = {}
    for measure in results.runs:
        means_LJAB = results.means(measure)
        gaps_LJB = means_LJAB[:, :, 0] - means_LJAB[:, :, a]
        for (i, j), row in ((p, gaps_LJB[p]) for p in np.ndindex(gaps_LJB.shape[:2])):
            leaf = table.setdefault(results.models[i], {}).setdefault(results.tasks[j], {})
            leaf[measure] = {
                str(budget): plain(gap) for budget, gap in zip(results.budgets, row, strict=True)
            }
        gains_CB = gaps_LJB.reshape(-1, gaps_LJB.shape[-1])
        gains_CB = gains_CB[np.isfinite(gains_CB).all(axis=1)]
        gains_CB = gains_CB if results.about(measure).lower_is_better else -gains_CB
        rho = [spearman(results.budgets, row.tolist()).rho or 0.0 for row in gains_CB]
        counts[measure] = {
            "pairs": len(gains_CB),
            "spearman_budget_vs_gap_negative": sum(r < -1e-12 for r in rho),
            "gap_at_largest_below_gap_at_smallest": int((gains_CB[:, -1] < gains_CB[:, 0]).sum()),
        }
    return table, counts


def best_table(results: Results) -> Table:
    """Return model → task → the best mean metric of any method and budget, beside zero-shot."""
    metric = results.metric
    means_LJAB = results.means(metric)
    sign = -1 if results.about(metric).lower_is_better else 1
    table: Table = {}
    for i, model in enumerate(results.models):
        for j, task in enumerate(results.tasks):
            gains_AB = np.where(np.isfinite(means_LJAB[i, j]), sign * means_LJAB[i, j], -np.inf)
            if not np.isfinite(gains_AB).any():
                continue
            a, b = np.unravel_index(gains_AB.argmax(), gains_AB.shape)
            table.setdefault(model, {})[task] = {
                "zero_shot": plain(results.zero_shot[metric][i, j]),
                "best": float(sign * gains_AB[a, b]),
                "best_method": results.methods[a].name,
                "best_budget": results.budgets[b],
                "random_best": plain(sign * gains_AB[0].max()),
            }
    return table


def means_without_table(results: Results, tasks: tuple[str, ...]) -> Table:
    """Return method → budget → scope → mean metric over the cells of all tasks but these."""
    kept = [j for j, task in enumerate(results.tasks) if task not in tasks]
    means_LJAB = results.means(results.metric)[:, kept]
    return {
        method.name: {
            str(budget): {
                scope: _mean(means_LJAB[list(models), :, a, b])
                for scope, models in results.scopes.items()
            }
            for b, budget in enumerate(results.budgets)
        }
        for a, method in enumerate(results.methods)
    }


def zero_shot_means_table(results: Results, tasks: tuple[str, ...]) -> Table:
    """Return `metric`, `metric_without` (these tasks) and `loss` → scope → mean over cells."""
    kept = [j for j, task in enumerate(results.tasks) if task not in tasks]
    of = results.zero_shot
    parts = {"metric": of[results.metric], "loss": of[results.loss]}
    parts |= {"metric_without": of[results.metric][:, kept]} if tasks else {}
    return {
        name: {scope: _mean(v_LJ[list(models)]) for scope, models in results.scopes.items()}
        for name, v_LJ in parts.items()
    }


def plain_or_nan(value: float | None) -> float:
    """Return NaN for a number that does not exist."""
    return np.nan if value is None else value


def _mean(values: np.ndarray) -> float | None:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if kept.size else None
