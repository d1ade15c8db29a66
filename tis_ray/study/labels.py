"""The legend of a study, from the specs of its methods and metrics."""

from __future__ import annotations

from collections.abc import Iterable

from tis_ray.analysis import Legend
from tis_ray.config import Config
from tis_ray.metrics import METRICS
from tis_ray.metrics.description import MetricDescription
from tis_ray.selectors import BASELINE, SELECTORS


def legend_of(config: Config) -> Legend:
    """Return the labels of all methods of a study, and how its metrics are read."""
    selectors = {BASELINE, *(s for name in config.representation for s in config.selectors(name))}
    return Legend(
        {method.name: method.label for method in config.representations()},
        {(rule := SELECTORS.find(name)).name: rule.label for name in sorted(selectors)},
        known_metrics(config.evaluation.metrics),
        config.margins,
    )


def known_metrics(references: Iterable[str]) -> dict[str, MetricDescription]:
    """Return how metrics are read, by name: ours and these."""
    specs = [*METRICS.own.values(), *map(METRICS.find, references)]
    return {
        spec.name: MetricDescription(spec.name, spec.label, spec.lower_is_better, spec.share)
        for spec in specs
    }
