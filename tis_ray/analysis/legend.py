"""The legend: what people read in place of the names of methods and metrics.

A study's record carries its legend, made from the specs when the study was recorded: a page can be
drawn where the methods of the study are not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tis_ray.analysis.study_values import ZERO_SHOT_PLAIN, Method, Part
from tis_ray.methods import READY
from tis_ray.metrics.description import MetricDescription, describe


@dataclass(frozen=True)
class Legend:
    """Labels by name. A name that is not there is its own label, `_` read as a space."""

    representations: dict[str, str] = field(default_factory=dict)
    selectors: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, MetricDescription] = field(default_factory=dict)
    margins: dict[str, float] = field(default_factory=dict)
    """Differences that do not matter, by metric, where the study says so."""

    def representation(self, name: str) -> str:
        """Return the label of a representation."""
        return self.representations.get(name) or name.replace("_", " ")

    def selector(self, name: str) -> str:
        """Return the label of a selector."""
        return self.selectors.get(name) or name.replace("_", " ")

    def method(self, method: Method) -> str:
        """Return the label of a method, such as "LESS + round robin"."""
        if method.is_zero_shot:
            plain = method.representation == ZERO_SHOT_PLAIN
            return "Zero-shot, no template" if plain else "Zero-shot"
        if method.is_random:
            return "Random"
        name = self.representation(method.representation)
        if method.selector in (None, READY):
            return name
        return f"{name} + {self.selector(method.selector)}"

    def part(self, part: Part) -> str:
        """Return the label of some rows, such as "LESS + round robin @ 100" or "Pool"."""
        if part.method is None:
            return part.side.capitalize()
        return f"{self.method(part.method)} @ {part.budget:,}"

    def metric(self, name: str) -> MetricDescription:
        """Return how a metric is read."""
        found = describe(name, self.metrics)
        margin = self.margins.get(name, self.margins.get(name.rpartition("/")[2]))
        return found if margin is None else replace(found, margin=margin)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Legend:
        """Read what `to_json` gave."""
        metrics = {
            name: MetricDescription(**found) for name, found in content.get("metrics", {}).items()
        }
        return cls(
            content.get("representations", {}),
            content.get("selectors", {}),
            metrics,
            content.get("margins", {}),
        )
