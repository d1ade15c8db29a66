"""Tables of the quantile experiment: does distance to the queries predict loss and metric?

The pool is ordered by distance, cut into tenths, and a model is trained on the first rows of each.
If distance matters, loss rises from one quantile to the next and the metric falls: that is the
expected sign of Spearman's ρ between the quantile's number and the value. One run stands behind
each point, so ρ over the quantiles is all that can be tested in one cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from tis_ray.analysis.comparison import wilcoxon_p
from tis_ray.analysis.correlation import EXACT_POINTS, critical_rho, spearman
from tis_ray.analysis.intervals import CONFIDENCE, bootstrap_interval, holm
from tis_ray.analysis.result_arrays import Results
from tis_ray.paper.budget_tables import Table

TESTS = ("sig", "sig_bh", "critical", "exact", "holm")


def curve(values_Q: Sequence[float], lower_is_better: bool) -> Table:
    """Return what one curve says: ρ with p-values and interval, slope, ends, best quantile."""
    values = np.asarray(values_Q, np.float64)
    number_Q = np.arange(1, len(values) + 1)
    rank = spearman(number_Q.tolist(), values.tolist())
    flat = rank.rho is None
    pearson = None if flat else stats.pearsonr(number_Q, values)
    best = values.argmin() if lower_is_better else values.argmax()
    steps = np.diff(values)
    return {
        "spearman": rank.rho,
        "spearman_low": rank.low,
        "spearman_high": rank.high,
        "spearman_p_t": rank.p_t,
        "spearman_p_exact": rank.p_value,
        "ties": rank.ties,
        "pearson": None if pearson is None else float(pearson.statistic),
        "pearson_p": None if pearson is None or rank.p_t is None else float(pearson.pvalue),
        "kendall": None if flat else float(stats.kendalltau(number_Q, values).statistic),
        "slope_per_quantile": float(np.polyfit(number_Q, values, 1)[0]) if steps.size else None,
        "q1": float(values[0]),
        "q10": float(values[-1]),
        "q10_minus_q1": float(values[-1] - values[0]),
        "argmin_quantile": int(values.argmin()) + 1,
        "argmax_quantile": int(values.argmax()) + 1,
        "best_quantile": int(best) + 1,
        "adjacent_increases": int((steps > 0).sum()),
        "adjacent_decreases": int((steps < 0).sum()),
        "values": values.tolist(),
    }


def curve_tables(results: Results) -> Table:
    """Return model → task → representation → measure → `curve`, and loss against metric."""
    measures = list(results.quantiles)
    return {
        model: _curves(results, i, {m: results.quantiles[m][i] for m in measures})
        for i, model in enumerate(results.models)
    }


def subcurve_tables(results: Results) -> Table:
    """Return the same of the first quantile cut again, for the models that have it."""
    return {
        model: _curves(results, results.models.index(model), values)
        for model, values in results.subquantiles.items()
    }


def _curves(results: Results, model: int, values: dict[str, np.ndarray]) -> Table:
    table: Table = {}
    for j, task in enumerate(results.tasks):
        for r, representation in enumerate(results.representations):
            leaf = table.setdefault(task, {}).setdefault(representation, {})
            for name, values_JRQ in values.items():
                leaf[name] = curve(values_JRQ[j, r], results.about(name).lower_is_better)
            if not {results.loss, results.metric} <= set(values):
                continue
            loss_Q, metric_Q = (values[m][j, r] for m in (results.loss, results.metric))
            zero_loss, zero_metric = (
                results.zero_shot[m][model, j] for m in (results.loss, results.metric)
            )
            leaf["dev_vs_metric_spearman"] = spearman(loss_Q.tolist(), metric_Q.tolist()).rho
            leaf["bins_below_zero_shot_loss"] = int((loss_Q < zero_loss).sum())
            leaf["bins_above_zero_shot_metric"] = int((metric_Q > zero_metric).sum())
    return table


def heatmap_table(results: Results, curves: Table) -> Table:
    """Return model → `ce_loss` or `true_metric` → representation → task → ρ, as the script draws."""
    shown = {m: n for m, n in results.quantile_figure_names.items() if m in results.quantiles}
    return {
        model: {
            figure_name: {
                representation: {
                    task: by_task[task][representation][metric]["spearman"] for task in by_task
                }
                for representation in results.representations
            }
            for metric, figure_name in shown.items()
        }
        for model, by_task in curves.items()
    }


def summary_table(results: Results, curves: Table) -> Table:
    """Return measure → representation → `all`, `by_model`, `by_task` → counts and means of ρ."""
    table: Table = {}
    for measure in results.quantiles:
        sign = 1 if results.about(measure).lower_is_better else -1
        for representation in results.representations:
            cells = {
                (model, task): curves[model][task][representation][measure]
                for model in results.models
                for task in results.tasks
            }
            table.setdefault(measure, {})[representation] = {
                "all": _counts(list(cells.values()), sign),
                "by_model": {
                    model: _counts([c for key, c in cells.items() if key[0] == model], sign)
                    for model in results.models
                },
                "by_task": {
                    task: _counts([c for key, c in cells.items() if key[1] == task], sign)
                    for task in results.tasks
                },
            }
    return table


def _counts(curves: Sequence[Table], sign: int) -> Table:
    """Return how ρ lies over some curves; `sign` is the one expected.

    `sig` counts p < 0.05 by Student's t, as scipy's `spearmanr` gives it; `sig_bh` those that
    Benjamini and Hochberg's procedure keeps among these curves at 5%; `critical` |ρ| at or beyond
    the critical value of the permutation distribution without ties (0.648 for ten quantiles);
    `exact` the permutation p, which allows for ties, and `holm` the same after Holm's correction.
    A flat curve has no ρ and counts as not significant. Curves of too few points have no p, and these
    counts are None.
    """
    known = [c for c in curves if c["spearman"] is not None]
    if not known:
        return {"n": len(curves)}
    rho, pearson = (np.array([c[key] for c in known]) for key in ("spearman", "pearson"))
    expected, significant = sign * rho > 0, _significant(known)
    interval = bootstrap_interval(rho)
    return {
        "n": len(curves),
        "mean_spearman": float(rho.mean()),
        "mean_spearman_low": interval.low,
        "mean_spearman_high": interval.high,
        "median_spearman": float(np.median(rho)),
        "sd_spearman": float(rho.std(ddof=1)) if len(rho) > 1 else None,
        "min_spearman": float(rho.min()),
        "max_spearman": float(rho.max()),
        "mean_pearson": float(pearson.mean()),
        "median_pearson": float(np.median(pearson)),
        "n_expected_sign": int(expected.sum()),
        **{f"n_{name}_expected": _both(significant.get(name), expected) for name in TESTS},
        **{f"n_{name}_wrong": _both(significant.get(name), ~expected) for name in TESTS},
        "n_pearson_sig_expected": _both(significant.get("pearson"), sign * pearson > 0),
        "n_q1_best": sum(c["best_quantile"] == 1 for c in curves),
        "mean_q10_minus_q1": float(np.mean([c["q10_minus_q1"] for c in curves])),
    }


def _significant(curves: Sequence[Table]) -> dict[str, np.ndarray]:
    """Return which curves each test calls significant; nothing where they are too short to have a p."""
    if any(c["spearman_p_exact"] is None for c in curves):
        return {}
    rho, p_t, p_exact, p_pearson = (
        np.array([c[key] for c in curves])
        for key in ("spearman", "spearman_p_t", "spearman_p_exact", "pearson_p")
    )
    quantiles = len(curves[0]["values"])
    critical = critical_rho(quantiles) if quantiles <= EXACT_POINTS else None
    alpha = 1 - CONFIDENCE
    return {
        "sig": p_t < alpha,
        "sig_bh": stats.false_discovery_control(p_t) <= alpha,
        "critical": np.abs(rho) >= (critical or np.inf) - 1e-12,
        "exact": p_exact < alpha,
        "holm": np.array(holm(p_exact.tolist())) < alpha,
        "pearson": p_pearson < alpha,
    }


def _both(found: np.ndarray | None, side: np.ndarray) -> int | None:
    return None if found is None else int((found & side).sum())


def pairwise_table(results: Results, curves: Table, reference: str) -> Table:
    """Return measure → other representation → how often ρ of `reference` is further where expected.

    `mean_diff` is the mean of the expected-sign ρ of the reference minus the other's, with its
    interval; the p is Wilcoxon's over cells. A cell without one of the two ρ is left out.
    """
    table: Table = {}
    others = [r for r in results.representations if r != reference]
    for measure in results.quantiles:
        sign = 1 if results.about(measure).lower_is_better else -1
        rho = {
            r: np.array(
                [
                    np.nan if (found := leaf[r][measure]["spearman"]) is None else sign * found
                    for by_task in curves.values()
                    for leaf in by_task.values()
                ]
            )
            for r in results.representations
        }
        table[measure] = {}
        for other in others:
            differences = rho[reference] - rho[other]
            differences = differences[np.isfinite(differences)]
            if not len(differences):
                continue
            interval = bootstrap_interval(differences)
            table[measure][other] = {
                "less_stronger": int((differences > 0).sum()),
                "less_weaker": int((differences < 0).sum()),
                "wilcoxon_p": wilcoxon_p(differences),
                "mean_diff": interval.mean,
                "low": interval.low,
                "high": interval.high,
            }
        strongest = np.all([rho[reference] > rho[other] for other in others], axis=0)
        table[measure]["less_is_strongest_of_3"] = int(strongest.sum())
    return table
