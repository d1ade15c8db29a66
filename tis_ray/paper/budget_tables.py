"""Tables of the budget experiment: means, differences to the baselines, ranks, selectors.

Each is a nested dict of plain numbers, ready for JSON; None is a number that does not exist. A
summary is over the cells of a scope (one model's tasks, or all models' tasks); a cell counts by its
mean over seeds. Keys that the paper's files have keep their spelling there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tis_ray.analysis.paired import Comparison, compare_complete, with_holm
from tis_ray.analysis.ranks import mean_ranks, wins
from tis_ray.analysis.results import Family, Results, mean_over_last, sd_over_last

Table = dict[str, Any]


def plain(value: float) -> float | None:
    """Return a number for JSON: None where it does not exist."""
    return float(value) if math.isfinite(value) else None


def budget_table(results: Results) -> Table:
    """Return model → task → method → budget → measure → mean, se, sd and values by seed.

    The standard error is sd / √n with the n - 1 standard deviation over the n seeds that gave a
    result; one seed has neither.
    """
    table: Table = {}
    for measure, values_LJABS in results.runs.items():
        mean_LJAB, sd_LJAB = mean_over_last(values_LJABS), sd_over_last(values_LJABS)
        seeds_LJAB = np.isfinite(values_LJABS).sum(axis=-1)
        for place in np.ndindex(mean_LJAB.shape):
            if not seeds_LJAB[place]:
                continue
            leaf = table
            for key in _keys(results, place):
                leaf = leaf.setdefault(key, {})
            leaf[measure] = {
                "mean": float(mean_LJAB[place]),
                "se": plain(float(sd_LJAB[place]) / math.sqrt(seeds_LJAB[place])),
                "sd": plain(float(sd_LJAB[place])),
                "values": [plain(v) for v in values_LJABS[place]],
            }
    return table


def zero_shot_table(results: Results) -> Table:
    """Return model → task → measure → value without training."""
    return {
        model: {
            task: {name: plain(v_LJ[i, j]) for name, v_LJ in results.zero_shot.items()}
            for j, task in enumerate(results.tasks)
        }
        for i, model in enumerate(results.models)
    }


def comparisons(
    results: Results,
    measure: str,
    models: Sequence[int],
    methods: Sequence[int],
    baseline: int | str,
) -> dict[tuple[str, str], Comparison]:
    """Return (method, budget) → difference to a baseline method, or to "zero_shot".

    Pairs are cells. Where the models and tasks make one cell only, they are its seeds. Holm's
    correction is over all that is returned.
    """
    values_LJABS = results.runs[measure][list(models)]
    one_cell = values_LJABS.shape[0] * values_LJABS.shape[1] == 1
    pairs_PAB = _cells(values_LJABS if one_cell else results.means(measure)[list(models)], one_cell)
    found: dict[tuple[str, str], Comparison | None] = {}
    for b, budget in enumerate(results.budgets):
        for a in methods:
            if baseline == "zero_shot":
                other = results.zero_shot[measure][list(models)].ravel()
                other = np.broadcast_to(other, len(pairs_PAB)) if one_cell else other
            else:
                other = pairs_PAB[:, int(baseline), b]
            found[results.methods[a].name, str(budget)] = compare_complete(
                pairs_PAB[:, a, b],
                other,
                lower_is_better=results.measure(measure).lower_is_better,
                pairs="seeds" if one_cell else "cells",
            )
    return with_holm({key: c for key, c in found.items() if c is not None})


def comparison_tables(results: Results) -> Table:
    """Return every comparison of a scope: scope → measure → method → budget → numbers.

    `difference_to_random` and `difference_to_zero_shot` for all methods, `selector_vs_rr` within
    the selectors of a representation, `representation_vs_less` within the representations.
    """
    methods = range(len(results.methods))
    tables: Table = {}
    for scope, models in results.scopes.items():
        for measure in results.runs:
            against: list[tuple[str, Sequence[int], int | str]] = [
                ("difference_to_random", methods[1:], 0),
                ("difference_to_zero_shot", methods, "zero_shot"),
            ]
            for family in results.families():
                if family.reference is not None:
                    of = "representation_vs_less"
                    of = of if family.name == "data_representation" else "selector_vs_rr"
                    others = [a for a in family.methods if a != family.reference]
                    against.append((of, others, family.reference))
            for name, chosen, baseline in against:
                found = comparisons(results, measure, models, chosen, baseline)
                leaf = tables.setdefault(name, {}).setdefault(scope, {}).setdefault(measure, {})
                relative = _relative(results, measure, models, baseline)
                for (method, budget), comparison in found.items():
                    numbers = asdict(comparison) | {"relative": relative.get((method, budget))}
                    leaf.setdefault(method, {})[budget] = numbers
    return tables


def summary_table(results: Results) -> Table:
    """Return scope → family → measure → `agg`, `mean_rank` and `wins`.

    `agg` is method → budget → the mean over cells, its differences to random and zero-shot, and in
    how many cells it beats them. Ranks and wins are within the family.
    """
    table: Table = {}
    for scope, models in results.scopes.items():
        for family in results.families():
            table.setdefault(scope, {})[family.name] = {
                measure: _summary(results, family, measure, list(models))
                for measure in results.runs
            }
    return table


def task_table(results: Results) -> Table:
    """Return task → method → budget → measure → mean over models."""
    means = {m: np.nanmean(results.means(m), axis=0) for m in results.runs}
    return _by_method(
        results,
        lambda j, a, b: {m: plain(v_JAB[j, a, b]) for m, v_JAB in means.items()},
    )


def _by_method(results: Results, leaf: Any) -> Table:
    return {
        task: {
            method.name: {str(budget): leaf(j, a, b) for b, budget in enumerate(results.budgets)}
            for a, method in enumerate(results.methods)
        }
        for j, task in enumerate(results.tasks)
    }


def _summary(results: Results, family: Family, measure: str, models: list[int]) -> Table:
    lower = results.measure(measure).lower_is_better
    cells_CAB = _cells(results.means(measure)[models])
    zero_C = results.zero_shot[measure][models].ravel()
    sign = -1 if lower else 1
    agg: Table = {}
    ranks: Table = {}
    best: Table = {}
    for b, budget in enumerate(results.budgets):
        of_family = cells_CAB[:, list(family.methods), b]
        ranked = mean_ranks(of_family, lower_is_better=lower)
        won = wins(of_family, lower_is_better=lower)
        for k, a in enumerate(family.methods):
            name, key = results.methods[a].name, str(budget)
            values_C, random_C = cells_CAB[:, a, b], cells_CAB[:, 0, b]
            agg.setdefault(name, {})[key] = {
                "mean": _mean(values_C),
                "minus_random": _mean(values_C - random_C),
                "minus_zero_shot": _mean(values_C - zero_C),
                "ratio_to_zero_shot": _ratio(values_C, zero_C),
                "cells_better_than_random": int((sign * (values_C - random_C) > 0).sum()),
                "cells_better_than_zero_shot": int((sign * (values_C - zero_C) > 0).sum()),
                "n": int(np.isfinite(values_C).sum()),
            }
            ranks.setdefault(name, {})[key] = plain(ranked[k])
            best.setdefault(name, {})[key] = int(won[k])
    return {"agg": agg, "mean_rank": ranks, "wins": best, "n_cells": len(cells_CAB)}


def _relative(
    results: Results, measure: str, models: Sequence[int], baseline: int | str
) -> dict[tuple[str, str], float | None]:
    """Return (method, budget) → mean over cells of (value - baseline) / baseline."""
    cells_CAB = _cells(results.means(measure)[list(models)])
    found = {}
    for a, method in enumerate(results.methods):
        for b, budget in enumerate(results.budgets):
            zero_C = results.zero_shot[measure][list(models)].ravel()
            other_C = zero_C if baseline == "zero_shot" else cells_CAB[:, int(baseline), b]
            ratio = _ratio(cells_CAB[:, a, b], other_C)
            found[method.name, str(budget)] = None if ratio is None else ratio - 1
    return found


def _cells(values: np.ndarray, by_seed: bool = False) -> np.ndarray:
    """Return (models x tasks, A, B), or (seeds, A, B) of the one cell there is."""
    if by_seed:
        return np.moveaxis(values[0, 0], -1, 0)
    return values.reshape(-1, *values.shape[2:])


def _mean(values: np.ndarray) -> float | None:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else None


def _ratio(values: np.ndarray, base: np.ndarray) -> float | None:
    """Return the mean of values / base over the cells whose base is not 0."""
    kept = np.isfinite(values) & np.isfinite(base) & (base != 0)
    return float((values[kept] / base[kept]).mean()) if kept.any() else None


def _keys(results: Results, place: tuple[int, ...]) -> tuple[str, str, str, str]:
    i, j, a, b = place
    return (
        results.models[i],
        results.tasks[j],
        results.methods[a].name,
        str(results.budgets[b]),
    )
