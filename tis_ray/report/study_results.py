"""Our own studies as `Results`: the tables and figures of the paper, from `report/record.json`.

Each run folder is a task, and its cells are runs. Studies of a grid over models (`model.name` in
their `setting`) are the same task on several models; other studies must have trained the same one. A cell
that failed or was never run stays missing. Where a study measured zero-shot with and without
template, the better one counts, metric by metric, as in its own report. Quantile curves are taken
where every task has all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tis_ray.analysis import Cell, Legend, Method
from tis_ray.analysis.quantiles import QuantileCurve, quantile_curves
from tis_ray.analysis.recorded import Settings
from tis_ray.analysis.result_arrays import RANDOM, Labelled, Results, scopes_of
from tis_ray.analysis.study_runs import StudyRuns, best_of_zero_shots
from tis_ray.analysis.study_table import Flag
from tis_ray.analysis.study_values import RANDOM_METHOD
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription, measured
from tis_ray.report.record import StudyRecord
from tis_ray.representations import REPRESENTATIONS
from tis_ray.selectors import BASELINE
from tis_ray.settings.grid import label
from tis_ray.storage import Place, place

RECORD = place("report") / "record.json"
RUN_FLAGS = ("few_steps", "short_subset", "one_seed", "missing_metric", "unreadable")
"""Flags of a study's own table that hold for the pooled table too."""


def is_study(folder: Place) -> bool:
    """Whether a folder is a run of ours that has been reported."""
    return (folder / RECORD).is_file()


def study_results(folders: Sequence[Place]) -> Results:
    """Return the runs below `folders`, a task each, as one set of results.

    Budgets and seeds are the union over runs. Raises InputError where a record cannot be read,
    holds no trained cell, or where two runs are of one task and model, or of models that no grid names.
    """
    records = studies_together(folders)
    models, tasks = (list(dict.fromkeys(names)) for names in zip(*records, strict=True))
    cells = [cell for record in records.values() for cell in record.cells if cell.draw is None]
    trained = [cell for cell in cells if not cell.method.is_zero_shot]
    legend = merged_legend(records.values())
    if not trained:
        raise InputError(f"{folders[0] / RECORD}: `cells` holds no trained cell to analyse")
    names = [
        name
        for name in measured(cell.metrics for cell in cells)
        if any(_value(cell, name) is not None for cell in trained)
    ]
    if not names:
        raise InputError(
            f"{folders[0] / RECORD}: `cells` holds no metric of a trained cell; run the study to its"
            " end first"
        )
    methods = list(dict.fromkeys([RANDOM_METHOD, *(cell.method for cell in trained)]))
    metrics = {name: legend.metric(name) for name in names}
    budgets = sorted({cell.budget for cell in trained})
    seeds = sorted({cell.seed or 0 for cell in trained})
    shape = (len(models), len(tasks), len(methods), len(budgets), len(seeds))
    runs = {name: np.full(shape, np.nan) for name in names}
    zero_shot = {name: np.full(shape[:2], np.nan) for name in names}
    for (model, task), record in records.items():
        i, j = models.index(model), tasks.index(task)
        for name, metric in metrics.items():
            if found := best_of_zero_shots(record.cells, metric):
                zero_shot[name][i, j] = found[1]
        given = set()
        for cell in record.cells:
            if cell.method.is_zero_shot or cell.draw is not None:
                continue
            a, b = methods.index(cell.method), budgets.index(cell.budget)
            place = (i, j, a, b, seeds.index(cell.seed or 0))
            if place in given:
                raise InputError(
                    f"{record.name}: `cells`: {legend.method(cell.method)} at budget {budgets[b]} has"
                    f" seed {seeds[place[-1]]} twice; keep one"
                )
            given.add(place)
            for name in names:
                if (value := _value(cell, name)) is not None:
                    runs[name][place] = value
    curves, of_curves, per_point = _quantiles(records, models, tasks, list(metrics.values()))
    return Results(
        name=", ".join(tasks),
        models=tuple(models),
        tasks=tuple(tasks),
        methods=_labelled(methods, legend),
        budgets=tuple(budgets),
        seeds=tuple(seeds),
        metrics=tuple(metrics.values()),
        figure_names={name: name for name in names},
        quantile_figure_names={name: name for name in names},
        legend=legend,
        loss="query_loss" if "query_loss" in names else names[0],
        metric=next((n for n, metric in metrics.items() if not metric.lower_is_better), names[0]),
        runs=runs,
        zero_shot=zero_shot,
        reference=_reference(),
        representations=tuple(labelled.name for labelled in _labelled(of_curves, legend)),
        quantiles=curves,
        quantile_seeds=per_point,
        flags=_flags(records, methods, budgets),
        scopes=scopes_of(models),
        studies={
            (models.index(model), tasks.index(task)): StudyRuns.of(record.cells, legend)
            for (model, task), record in records.items()
        },
    )


def studies_together(folders: Sequence[Place]) -> dict[tuple[str, str], StudyRecord]:
    """Return the studies of run folders that count as so many tasks, by the names of model and task.

    Raises InputError where a record cannot be read, or two studies are the same one, trained different
    models that no grid names, or count budgets differently.
    """
    records: dict[tuple[str, str], StudyRecord] = {}
    for folder in folders:
        record = StudyRecord.load(folder / RECORD)
        of = _model(record), _task(record)
        if of in records:
            raise InputError(f"{folder}: another folder holds a study `{record.name}` too")
        records[of] = record
    if len({model for model, _ in records}) > 1 and not all(map(_of_model, records.values())):
        listed = ", ".join(f"{record.name} trained {of[0]}" for of, record in records.items())
        raise InputError(f"studies of different models cannot be one set of tasks: {listed}")
    _require_one_unit(records)
    return records


def _of_model(record: StudyRecord) -> Settings:
    """Return what of the study's place in a grid names its model."""
    return {key: value for key, value in record.setting.items() if key.startswith("model.")}


def _model(record: StudyRecord) -> str:
    own = _of_model(record)
    name = str((record.config.get("model") or {}).get("name", "model"))
    return "-".join([name, *(str(value) for key, value in own.items() if key != "model.name")])


def _task(record: StudyRecord) -> str:
    """Return the study's name without what is said of its model."""
    own = _of_model(record)
    if not own:
        return record.name
    rest = label({key: value for key, value in record.setting.items() if key not in own})
    return "-".join(
        part for part in (record.name.removesuffix(f"-{label(record.setting)}"), rest) if part
    )


def _quantiles(
    records: Mapping[tuple[str, str], StudyRecord],
    models: Sequence[str],
    tasks: Sequence[str],
    metrics: Sequence[MetricDescription],
) -> tuple[dict[str, np.ndarray], list[Method], int]:
    """Return measure → values_LJRQ, the curves' methods, and the fewest runs of a point.

    A measure is left out where a task of a model lacks a curve or a point that another one has.
    """
    found: list[dict[tuple[str, Method], QuantileCurve]] = [
        {
            (curve.metric.name, curve.method): curve
            for curve in quantile_curves(record.quantiles, metrics)
            if not curve.focus
        }
        for record in (records.get((model, task)) for model in models for task in tasks)
        if record is not None
    ]
    if len(found) < len(models) * len(tasks):
        return {}, [], 0
    methods = list(dict.fromkeys(method for curves in found for _, method in curves))
    values: dict[str, np.ndarray] = {}
    for name in (metric.name for metric in metrics):
        curves = [[of.get((name, method)) for method in methods] for of in found]
        lengths = {len(c.values) if c else 0 for row in curves for c in row}
        if len(lengths) == 1 and 0 not in lengths:
            values_XRQ = np.array([[c.values for c in row if c] for row in curves])
            values[name] = values_XRQ.reshape(len(models), len(tasks), *values_XRQ.shape[1:])
    if not values:
        return {}, [], 0
    return values, methods, min(c.seeds for of in found for c in of.values())


def merged_legend(records: Iterable[StudyRecord]) -> Legend:
    """Return one legend for several studies; of two labels of a name the first study's holds.

    Raises InputError where studies read one metric in two ways.
    """
    merged = Legend()
    for legend in (record.legend for record in records):
        for name, metric in legend.metrics.items():
            if (known := merged.metrics.get(name, metric)) != metric:
                raise InputError(
                    f"`{name}`: studies of one analysis read it in two ways ({known} and {metric})"
                )
        merged = Legend(
            legend.representations | merged.representations,
            legend.selectors | merged.selectors,
            legend.metrics | merged.metrics,
            legend.margins | merged.margins,
        )
    return merged


def _labelled(methods: Sequence[Method], legend: Legend) -> tuple[Labelled, ...]:
    """Return methods with labels of which no two are the same: tables are keyed by them."""
    labels = [RANDOM if method.is_random else legend.method(method) for method in methods]
    return tuple(
        Labelled(
            method,
            label
            if labels.count(label) == 1 or method.is_random
            else f"{label} ({method.representation}, {method.selector})",
            RANDOM if method.is_random else legend.representation(method.representation),
        )
        for method, label in zip(methods, labels, strict=True)
    )


def _require_one_unit(records: Mapping[tuple[str, str], StudyRecord]) -> None:
    """Raise InputError where budgets count examples in one study and tokens in another."""
    units = {record.budget_unit: record.name for record in records.values()}
    if len(units) > 1:
        listed = ", ".join(f"{name} in {unit}" for unit, name in units.items())
        raise InputError(f"studies whose budgets count different things cannot be pooled: {listed}")


def _flags(
    records: Mapping[tuple[str, str], StudyRecord],
    methods: Sequence[Method],
    budgets: Sequence[int],
) -> dict[tuple[int, int], tuple[Flag, ...]]:
    """Return what each study's own table says of its runs, once for each kind."""
    found: dict[tuple[int, int], dict[tuple[str, str | None], list[Flag]]] = {}
    for record in records.values():
        for row in record.table():
            if row.method.is_zero_shot:
                continue
            place = methods.index(row.method), budgets.index(row.budget)
            for flag in row.flags:
                if flag.code in RUN_FLAGS:
                    found.setdefault(place, {}).setdefault((flag.code, flag.metric), []).append(
                        flag
                    )
    return {
        place: tuple(
            replace(
                flags[0], message=f"{flags[0].message} (in {len(flags)} of {len(records)} cells)"
            )
            if len(records) > 1
            else flags[0]
            for flags in kinds.values()
        )
        for place, kinds in found.items()
    }


def _reference() -> Method:
    """Return the representation that the paper prefers, with the selector that all have."""
    return Method(
        next(found.name for found in REPRESENTATIONS.own.values() if found.prior), BASELINE
    )


def _value(cell: Cell, name: str) -> float | None:
    value = cell.metrics.get(name)
    return float(value) if value is not None and math.isfinite(value) else None
