"""Tables of the budget experiment: means, differences to the baselines, ranks, selectors.

Each is a nested dict of plain numbers, ready for JSON; None is a number that does not exist. A
summary is over the cells of a scope (one model's tasks, or all models' tasks); a cell counts by its
mean over seeds. Keys that the paper's files have keep their spelling there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tis_ray.analysis.pooled_table import Place, comparisons
from tis_ray.analysis.ranks import mean_ranks, wins
from tis_ray.analysis.result_arrays import Family, Results, mean_over_last, sd_over_last

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


def comparison_tables(results: Results) -> Table:
    """Return every comparison of a scope: scope → measure → method → budget → numbers.

    `difference_to_random` and `difference_to_zero_shot` for all methods, `selector_vs_rr` within
    the selectors of a representation, `representation_vs_less` within the representations.
    """
    methods = range(len(results.methods))
    tables: Table = {}
    for scope, models in results.scopes.items():
        for measure in results.runs:
            against: list[tuple[str, Sequence[int], int | None]] = [
                ("difference_to_random", methods[1:], 0),
                ("difference_to_zero_shot", methods, None),
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
                for (a, b), comparison in found.items():
                    numbers = comparison.to_json() | {"relative": relative[a, b]}
                    leaf.setdefault(results.methods[a].name, {})[str(results.budgets[b])] = numbers
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
    means = {m: mean_over_last(np.moveaxis(results.means(m), 0, -1)) for m in results.runs}
    return _by_method(
        results,
        lambda j, a, b: {m: plain(float(v_JAB[j, a, b])) for m, v_JAB in means.items()},
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
    lower = results.about(measure).lower_is_better
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
    results: Results, measure: str, models: Sequence[int], baseline: int | None
) -> dict[Place, float | None]:
    """Return (method, budget) → mean over cells of (value - baseline) / baseline; None is zero-shot."""
    cells_CAB = _cells(results.means(measure)[list(models)])
    zero_C = results.zero_shot[measure][list(models)].ravel()
    found = {}
    for a, b in np.ndindex(cells_CAB.shape[1:]):
        other_C = zero_C if baseline is None else cells_CAB[:, baseline, b]
        ratio = _ratio(cells_CAB[:, a, b], other_C)
        found[a, b] = None if ratio is None else ratio - 1
    return found


def _cells(values: np.ndarray) -> np.ndarray:
    """Return (models x tasks, A, B)."""
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
