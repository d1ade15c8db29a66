"""Sentences for the page of several studies: details of the headline, and captions of figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tis_ray.analysis import TableRow
from tis_ray.analysis.result_arrays import Family, Results
from tis_ray.metrics.description import MetricDescription
from tis_ray.paper.budget_tables import Table
from tis_ray.report.formatting import decimals, number, plain_number, probability, rho_span


def details(results: Results, tables: Table, rows: Sequence[TableRow]) -> Iterable[str]:
    """Yield what qualifies the headline besides the comparisons with random themselves."""
    yield from _one_cell_words(results, rows)
    if "quantile_summary" in tables:
        yield from (
            _distance_words(results, tables, m)
            for m in results.shown
            if m.name in results.quantiles
        )
    yield from _selector_words(results, tables, rows)
    yield from _proxy_words(results, tables)
    yield from _noise_words(results, tables)


def quantile_words(results: Results, curves: Table, metric: MetricDescription) -> str:
    """Return the caption of a quantile figure: which correlations one model's tasks show."""
    sign = 1 if metric.lower_is_better else -1
    way = "rises" if metric.lower_is_better else "falls"
    parts = []
    for name in results.representations:
        cells = [by_task[name][metric.name] for by_task in curves.values()]
        if any(c["spearman"] is not None and c["spearman_p_exact"] is None for c in cells):
            return f"{len(cells[0]['values'])} points are too few for a test of the correlation."
        called = [c for c in cells if c["spearman"] is not None and c["spearman_p_exact"] < 0.05]
        as_expected = sum(sign * c["spearman"] > 0 for c in called)
        parts.append(f"{name} {as_expected} of {len(cells)}, {len(called) - as_expected} reversed")
    return (
        f"Tasks in which the {metric.words} {way} with distance (permutation p < 0.05):"
        f" {'; '.join(parts)}."
    )


def budget_words(
    results: Results, tables: Table, model: str, family: Family, m: MetricDescription
) -> str:
    """Return the caption of a budget figure: who is best, and who beats random and zero-shot."""
    summary = tables["budget_summary"][model][family.name][m.name]
    random = results.methods[0].name
    points = {
        name: sum(cell["n"] for cell in summary["agg"][name].values())
        for name in (results.methods[a].name for a in family.methods)
    }
    names = [name for name, count in points.items() if count]
    best = {name: sum(summary["wins"][name].values()) for name in names}
    most = max(best.values(), default=0)
    leaders = ", ".join(name for name in names if best[name] == most)
    words = f"Most often best: {leaders} ({most} of {max(points.values())} points)." if most else ""
    if points[random]:
        over = {
            name: sum(c["cells_better_than_random"] for c in summary["agg"][name].values())
            for name in names
            if name != random
        }
        words += f" Better than random: {', '.join(f'{n} {count}' for n, count in over.items())}."
    if family.name == "data_representation" and np.isfinite(results.zero_shot[m.name]).any():
        under = [
            f"{name} {points[name] - count}"
            for name in names
            if (
                count := sum(
                    c["cells_better_than_zero_shot"] for c in summary["agg"][name].values()
                )
            )
            < points[name]
        ]
        words += f" Not better than zero-shot: {', '.join(under) or 'none'}."
    return words.strip()


def _one_cell_words(results: Results, rows: Sequence[TableRow]) -> Iterable[str]:
    """Yield a warning where one cell makes more than a third of the largest difference to random."""
    metric = results.about(results.metric)
    compared = [
        (versus, row)
        for row in rows
        if metric.name in row.metrics and (versus := row.metrics[metric.name].vs_random)
    ]
    if not compared:
        return
    sign = -1 if metric.lower_is_better else 1
    _, best = max(compared, key=lambda pair: sign * pair[0].difference)
    a, b = results.position(best.label), results.budgets.index(best.budget)
    means_LJAB = results.means(metric.name)
    gaps_LJ = means_LJAB[:, :, a, b] - means_LJAB[:, :, 0, b]
    known = np.isfinite(gaps_LJ)
    if known.sum() < 3:
        return
    i, j = np.unravel_index(np.where(known, np.abs(gaps_LJ), -1).argmax(), gaps_LJ.shape)
    whole, most = float(gaps_LJ[known].mean()), float(gaps_LJ[i, j])
    without = (float(gaps_LJ[known].sum()) - most) / (int(known.sum()) - 1)
    if abs(whole - without) > abs(whole) / 3:
        cell = " on ".join(
            part
            for part, several in (
                (results.models[i], len(results.models) > 1),
                (results.tasks[j], len(results.tasks) > 1),
            )
            if several
        )
        places = decimals(rows, metric)
        yield (
            f"One cell decides the mean of {best.label} at {best.budget:,}: {cell} differs from"
            f" random by {number(metric, most, places, signed=True)}; without it the mean"
            f" difference is {number(metric, without, places, signed=True)}."
        )


def _distance_words(results: Results, tables: Table, metric: MetricDescription) -> str:
    parts = []
    for name in results.representations:
        counts = tables["quantile_summary"][metric.name][name]["all"]
        if "mean_spearman" not in counts:
            continue
        ends = rho_span(counts["mean_spearman_low"], counts["mean_spearman_high"])
        tested = (
            "too few points for a test"
            if counts["n_exact_expected"] is None
            else f"significant as expected in {counts['n_exact_expected']} of {counts['n']} cells"
            f" and reversed in {counts['n_exact_wrong']}"
        )
        mean = " ".join(filter(None, [plain_number(counts["mean_spearman"], 2), ends]))
        parts.append(f"{name} mean ρ {mean}, {tested}")
    return f"Distance to the queries against {metric.words}: {'; '.join(parts)}."


def _selector_words(results: Results, tables: Table, rows: Sequence[TableRow]) -> Iterable[str]:
    if "selector_vs_rr" not in tables:
        return
    parts = []
    for metric in results.shown:
        by_method = tables["selector_vs_rr"][results.scope][metric.name]
        places = decimals(rows, metric) + 1
        differ = [
            f"{name} {number(metric, n['difference'], places, signed=True)} at {int(budget):,}"
            f" (p {probability(n['p_value'])}, corrected {probability(n['p_holm'])})"
            for name, by_budget in by_method.items()
            if name != results.methods[0].name
            for budget, n in by_budget.items()
            if n["verdict"] in ("better", "worse")
        ]
        parts.append(f"on the {metric.words} {', '.join(differ) or 'none is shown to differ'}")
    yield f"Selectors against round robin: {'; '.join(parts)}."


def _proxy_words(results: Results, tables: Table) -> Iterable[str]:
    summary = tables["query_loss_vs_metric_summary"]
    if results.loss == results.metric or summary["mean"] is None:
        return
    cells = len(results.models) * len(results.tasks)
    metric = results.about(results.metric)
    together = [summary["n_sig_negative"], summary["n_sig_positive"]]
    good, bad = together[::-1] if metric.lower_is_better else together
    yield (
        f"A lower {results.about(results.loss).words} goes with a better {metric.words} in"
        f" {good} of {cells} cells and with a worse one in {bad} (Spearman over methods and budgets,"
        f" p < 0.05; mean ρ {plain_number(summary['mean'], 2)})."
    )


def _noise_words(results: Results, tables: Table) -> Iterable[str]:
    noise = tables.get("repeat_noise")
    if not noise:
        return
    loss, metric = results.about(results.loss), results.about(results.metric)
    yield (
        f"The same training run twice ({noise['n']} pairs) differs by a median of"
        f" {noise['loss_abs_median']:.4f} in {loss.words} and {noise['metric_abs_median']:.2f} in"
        f" {metric.words} (95% within {noise['metric_abs_p95']:.2f}, at most"
        f" {noise['metric_abs_max']:.2f}): smaller differences between single runs mean nothing."
    )
