"""What the tables of an analysis say, in sentences: the good and the bad, with their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tis_ray.analysis.results import Family, Measure, Results
from tis_ray.report.words import Headline, plain_number, probability

Table = Mapping[str, Any]


def span(numbers: Table, measure: Measure) -> str:
    """Return "[low, high]" of a difference, or nothing where it has no interval."""
    low, high = numbers["low"], numbers["high"]
    if low is None or high is None:
        return ""
    ends = (plain_number(measure.scale * end, measure.places) for end in (low, high))
    return f"[{', '.join(ends)}]"


def scope_of(results: Results) -> str:
    """Return the widest scope: all models, or the only one."""
    return "all_models" if "all_models" in results.scopes else results.models[0]


def pairs_words(results: Results) -> str:
    """Return what the differences of the widest scope are over."""
    count = len(results.models) * len(results.tasks)
    if count == 1:
        return f"{len(results.seeds)} seeds"
    many = len(results.models) > 1
    return f"{count} cells ({'model × task' if many else 'one a task'})"


def headline(results: Results, tables: Table) -> Headline:
    """Say what selection gains over random on the metric, and what else a reader should know."""
    measure = results.measure(results.metric)
    found = {
        (name, budget): numbers
        for name, by_budget in tables["difference_to_random"][scope_of(results)][
            results.metric
        ].items()
        for budget, numbers in by_budget.items()
    }
    details = list(_details(results, tables))
    if not found:
        return Headline(
            f"Random was not measured: no {measure.words} can be compared.", tuple(details)
        )
    better, worse = (
        sum(numbers["verdict"] == verdict for numbers in found.values())
        for verdict in ("better", "worse")
    )
    sign = -1 if measure.lower_is_better else 1
    name, budget = max(found, key=lambda key: sign * found[key]["difference"])
    best = found[name, budget]
    gain = plain_number(measure.scale * best["difference"], measure.places)
    kept = sum(
        numbers["verdict"] != "cannot tell" and (numbers["p_holm"] or 0) < 0.05
        for numbers in found.values()
    )
    corrected = f" ({kept} verdicts hold after Holm's correction)" if better + worse else ""
    details[:0] = _one_cell_words(results, measure, name, int(budget))
    return Headline(
        f"On the {measure.words}, {better} of {len(found)} combinations of method and budget are"
        f" shown to beat random and {worse} to be worse{corrected}. The largest mean difference is"
        f" {' '.join(filter(None, [gain, span(best, measure)]))}, by {name} at budget"
        f" {int(budget):,} ({best['verdict']}).",
        tuple(details),
        "open" if not kept or bool(better) == bool(worse) else ("good" if better else "bad"),
    )


def quantile_words(results: Results, curves: Table, measure: Measure) -> str:
    """Return the caption of a quantile figure: which correlations one model's tasks show."""
    sign = 1 if measure.lower_is_better else -1
    way = "rises" if measure.lower_is_better else "falls"
    parts = []
    for name in results.representations:
        cells = [by_task[name][measure.name] for by_task in curves.values()]
        if any(c["spearman"] is not None and c["spearman_p_exact"] is None for c in cells):
            return f"{len(cells[0]['values'])} points are too few for a test of the correlation."
        called = [c for c in cells if c["spearman"] is not None and c["spearman_p_exact"] < 0.05]
        as_expected = sum(sign * c["spearman"] > 0 for c in called)
        parts.append(f"{name} {as_expected} of {len(cells)}, {len(called) - as_expected} reversed")
    return (
        f"Tasks in which the {measure.words} {way} with distance (permutation p < 0.05):"
        f" {'; '.join(parts)}."
    )


def budget_words(results: Results, tables: Table, model: str, family: Family, m: Measure) -> str:
    """Return the caption of a budget figure: who is best, and who beats random and zero-shot."""
    summary = tables["budget_summary"][model][family.name][m.name]
    points = summary["n_cells"] * len(results.budgets)
    names = [results.methods[a].name for a in family.methods]
    best = {name: sum(summary["wins"][name].values()) for name in names}
    over = {
        name: sum(c["cells_better_than_random"] for c in summary["agg"][name].values())
        for name in names[1:]
    }
    words = f"Best at most of the {points} points: {max(best, key=lambda n: best[n])}"
    words += f" ({max(best.values())}). Better than random: "
    words += ", ".join(f"{name} {count}" for name, count in over.items()) + "."
    if family.name == "data_representation" and np.isfinite(results.zero_shot[m.name]).any():
        under = [
            f"{name} {points - count}"
            for name in names
            if (
                count := sum(
                    c["cells_better_than_zero_shot"] for c in summary["agg"][name].values()
                )
            )
            < points
        ]
        words += f" Not better than zero-shot: {', '.join(under) or 'none'}."
    return words


def shown(results: Results) -> list[Measure]:
    """Return the measures that figures and tables of the page show."""
    return [measure for measure in results.measures if measure.figure]


def _details(results: Results, tables: Table) -> Iterable[str]:
    if "quantile_summary" in tables:
        yield from (
            _distance_words(results, tables, m)
            for m in shown(results)
            if m.name in results.quantiles
        )
    yield from (_random_words(results, tables, m) for m in shown(results))
    yield from _selector_words(results, tables)
    yield from _proxy_words(results, tables)
    yield from _noise_words(results, tables)


def _one_cell_words(results: Results, measure: Measure, name: str, budget: int) -> Iterable[str]:
    """Yield a warning where one cell makes more than a third of a mean difference to random."""
    means_LJAB = results.means(measure.name)
    a, b = results.position(name), results.budgets.index(budget)
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
        yield (
            f"One cell decides that mean: {cell} differs by"
            f" {plain_number(measure.scale * most, measure.places)}; without it the mean is"
            f" {plain_number(measure.scale * without, measure.places)}."
        )


def _distance_words(results: Results, tables: Table, measure: Measure) -> str:
    parts = []
    for name in results.representations:
        counts = tables["quantile_summary"][measure.name][name]["all"]
        if "mean_spearman" not in counts:
            continue
        low, high = counts["mean_spearman_low"], counts["mean_spearman_high"]
        ends = "" if low is None else f" [{plain_number(low, 2)}, {plain_number(high, 2)}]"
        tested = (
            "too few points for a test"
            if counts["n_exact_expected"] is None
            else f"significant as expected in {counts['n_exact_expected']} of {counts['n']} cells"
            f" and reversed in {counts['n_exact_wrong']}"
        )
        parts.append(f"{name} mean ρ {plain_number(counts['mean_spearman'], 2)}{ends}, {tested}")
    return f"Distance to the queries against {measure.words}: {'; '.join(parts)}."


def _random_words(results: Results, tables: Table, measure: Measure) -> str:
    found = tables["difference_to_random"][scope_of(results)][measure.name]
    parts = []
    for name, by_budget in found.items():
        told = [numbers["verdict"] for numbers in by_budget.values()]
        better, worse = told.count("better"), told.count("worse")
        if better or worse:
            told_words = [f"better at {better}"] * bool(better) + [f"worse at {worse}"] * bool(
                worse
            )
            parts.append(f"{name} {' and '.join(told_words)}")
    if not parts:
        return f"No method is shown to differ from random on the {measure.words} at any budget."
    if len(parts) < len(found):
        parts.append("cannot tell for the others at any")
    return (
        f"Against random on the {measure.words}, of {len(results.budgets)} budgets:"
        f" {'; '.join(parts)}."
    )


def _selector_words(results: Results, tables: Table) -> Iterable[str]:
    if "selector_vs_rr" not in tables:
        return
    for measure in shown(results):
        found = tables["selector_vs_rr"][scope_of(results)][measure.name]
        called = [
            f"{name} {plain_number(measure.scale * n['difference'], measure.places)} at {int(budget):,}"
            f" (p {probability(n['p_value'])}, corrected {probability(n['p_holm'])})"
            for name, by_budget in found.items()
            if name != results.methods[0].name
            for budget, n in by_budget.items()
            if n["verdict"] != "cannot tell"
        ]
        listed = "; ".join(called) or "none can be told apart"
        yield f"Selectors against round robin on the {measure.words}: {listed}."


def _proxy_words(results: Results, tables: Table) -> Iterable[str]:
    summary = tables["query_loss_vs_metric_summary"]
    if results.loss == results.metric or summary["mean"] is None:
        return
    cells = len(results.models) * len(results.tasks)
    metric = results.measure(results.metric)
    together = [summary["n_sig_negative"], summary["n_sig_positive"]]
    good, bad = together[::-1] if metric.lower_is_better else together
    yield (
        f"A lower {results.measure(results.loss).words} goes with a better {metric.words} in"
        f" {good} of {cells} cells and with a worse one in {bad} (Spearman over methods and budgets,"
        f" p < 0.05; mean ρ {plain_number(summary['mean'], 2)})."
    )


def _noise_words(results: Results, tables: Table) -> Iterable[str]:
    noise = tables.get("repeat_noise")
    if not noise:
        return
    loss, metric = results.measure(results.loss), results.measure(results.metric)
    yield (
        f"The same training run twice ({noise['n']} pairs) differs by a median of"
        f" {noise['loss_abs_median']:.4f} in {loss.words} and {noise['metric_abs_median']:.2f} in"
        f" {metric.words} (95% within {noise['metric_abs_p95']:.2f}, at most"
        f" {noise['metric_abs_max']:.2f}): smaller differences between single runs mean nothing."
    )
