"""The results of studies as arrays: what tables and figures are made of, wherever they came from.

`tis_ray.paper.published` reads the paper's published files into `Results`, and
`tis_ray.report.study_results` our own studies; all that follows is one code for both. A cell is one
model and task. Letters of these arrays: L models, J tasks, A methods, B budgets, S seeds,
R representations, Q quantiles. NaN is a result that is missing: never a zero, never averaged over.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tis_ray.analysis.legend import Legend
from tis_ray.analysis.samples import Sample
from tis_ray.analysis.study_runs import StudyRuns
from tis_ray.analysis.study_table import Flag
from tis_ray.analysis.study_values import Method
from tis_ray.metrics.description import MetricDescription

RANDOM = "Random"
"""The name of the baseline in `Results.methods`, always the first."""


@dataclass(frozen=True)
class Labelled:
    """A method with what people read in its place, which is also its key in tables."""

    method: Method
    name: str
    representation: str
    """The label of its representation alone."""


@dataclass(frozen=True)
class Family:
    """Methods that are drawn and ranked together: random first, then a reference, then others."""

    name: str
    """`data_representation`, or `sel_alg`, with a representation's name where there are several."""
    title: str
    methods: tuple[int, ...]
    """Positions in `Results.methods`."""
    reference: int | None
    """What the others are compared with besides random."""


@dataclass(frozen=True)
class Results:
    """Budget curves, zero-shot values and quantile curves, by the name of their metric."""

    name: str
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    methods: tuple[Labelled, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    metrics: tuple[MetricDescription, ...]
    loss: str
    """Which metric is the query loss, and which the task's own."""
    metric: str
    runs: dict[str, np.ndarray]
    """values_LJABS of each metric."""
    zero_shot: dict[str, np.ndarray]
    """values_LJ of each metric."""
    reference: Method
    """Whose representation and whose selector others are compared with, besides random."""
    representations: tuple[str, ...] = ()
    """Names of the methods that the quantile curves are of."""
    figure_names: dict[str, str] = field(default_factory=dict)
    """MetricDescription → its name in figures' file names, for the metrics that figures and pages show."""
    quantile_figure_names: dict[str, str] = field(default_factory=dict)
    """The same for the quantile figures."""
    quantiles: dict[str, np.ndarray] = field(default_factory=dict)
    """values_LJRQ of each metric: a run, or the mean of some, for each part of the pool by distance."""
    quantile_seeds: int = 1
    """How many runs are behind each point of these curves, at least."""
    first_quantile_repeats: bool = False
    """Whether the first quantile's run is the smallest budget's, trained again with the same seed."""
    subquantiles: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Model → metric → values_JRQ: the first quantile cut again, for the models that have it."""
    legend: Legend = field(default_factory=Legend)
    """The labels of representations and selectors."""
    metric_words: dict[str, str] = field(default_factory=dict)
    """What the metric is, by task, where tasks differ."""
    flags: dict[tuple[int, int], tuple[Flag, ...]] = field(default_factory=dict)
    """What to know of the runs behind a method and budget, by their positions."""
    scopes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Name → positions of the models that are summed up together; `scopes_of` makes the usual."""
    studies: dict[tuple[int, int], StudyRuns] = field(default_factory=dict)
    """Our own studies by the positions of model and task: runs that know their values by test row."""
    doubtful_tasks: tuple[str, ...] = ()
    """Tasks that some means leave out, as their measurement is in doubt."""

    def about(self, name: str) -> MetricDescription:
        """Return how the metric of this name is read."""
        return next(metric for metric in self.metrics if metric.name == name)

    @property
    def shown(self) -> list[MetricDescription]:
        """The metrics that figures and pages show."""
        return [metric for metric in self.metrics if metric.name in self.figure_names]

    @property
    def scope(self) -> str:
        """The widest scope: all models, or the only one."""
        return "all_models" if "all_models" in self.scopes else self.models[0]

    def means(self, metric: str) -> np.ndarray:
        """Return means over seeds (L, J, A, B); NaN where no seed has a result."""
        return mean_over_last(self.runs[metric])

    def sample(self, metric: str, cell: tuple[int, int], method: int, budget: int) -> Sample | None:
        """Return the runs of a method at a budget in one cell, by their positions; None where there are none."""
        about = self.about(metric)
        if cell in self.studies:
            place = self.methods[method].method, self.budgets[budget]
            return self.studies[cell].sample(place, about)
        values_S = self.runs[metric][(*cell, method, budget)]
        known: dict[int | None, float] = {
            s: float(value) for s, value in enumerate(values_S) if np.isfinite(value)
        }
        return Sample(known) if known else None

    def untrained(self, metric: str, cell: tuple[int, int]) -> Sample | None:
        """Return zero-shot's one run in a cell, the better one where there are two."""
        if cell in self.studies:
            found = self.studies[cell].zero_shot(self.about(metric))
            return found[1] if found else None
        value = float(self.zero_shot[metric][cell])
        return Sample({None: value}) if np.isfinite(value) else None

    def position(self, name: str) -> int | None:
        """Return where a method stands in `methods`."""
        return next((i for i, method in enumerate(self.methods) if method.name == name), None)

    def families(self) -> list[Family]:
        """Return the paper's two families, and one more for each further representation.

        `data_representation` holds the methods with the selector that most representations have
        (the reference's where it ties), and those that are in no other family. `sel_alg` holds a
        representation's selectors where it has several.
        """
        methods = self.methods[1:]
        selectors = [labelled.method.selector for labelled in methods]
        common = max(
            dict.fromkeys(selectors),
            key=lambda s: (selectors.count(s), s == self.reference.selector),
            default=None,
        )
        several = {
            r: [i for i, m in enumerate(self.methods) if m.representation == r and i]
            for r in dict.fromkeys(m.representation for m in methods)
        }
        several = {r: found for r, found in several.items() if len(found) > 1}
        held = {i for found in several.values() for i in found}
        first = [
            i
            for i, labelled in enumerate(self.methods)
            if i and (labelled.method.selector == common or i not in held)
        ]
        found = [
            Family(
                "data_representation",
                "representations",
                (0, *first),
                next((i for i in first if self._is_reference(i, "representation")), None),
            )
        ]
        for representation, positions in several.items():
            name = "sel_alg" if len(several) == 1 else f"sel_alg_{representation}"
            reference = (i for i in positions if self._is_reference(i, "selector"))
            found.append(
                Family(
                    name, f"selectors of {representation}", (0, *positions), next(reference, None)
                )
            )
        return found

    def _is_reference(self, i: int, part: Literal["representation", "selector"]) -> bool:
        return bool(getattr(self.methods[i].method, part) == getattr(self.reference, part))


def scopes_of(models: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return each model alone and, where there are several, `all_models`."""
    scopes = {model: (i,) for i, model in enumerate(models)}
    return scopes | ({"all_models": tuple(range(len(models)))} if len(models) > 1 else {})


def mean_over_last(values: np.ndarray) -> np.ndarray:
    """Return means over the last axis, of what is there; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        return np.asarray(np.nanmean(values, axis=-1))


def sd_over_last(values: np.ndarray) -> np.ndarray:
    """Return standard deviations (n - 1) over the last axis; NaN below two values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Degrees of freedom")
        return np.asarray(np.nanstd(values, axis=-1, ddof=1))
