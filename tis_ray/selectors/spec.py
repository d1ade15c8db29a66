"""The spec of a selector, the registry of selectors, and the forms in which one may be given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tis_ray.errors import InputError
from tis_ray.methods import Method, Methods, keyword_only, settings_of, summary_of
from tis_ray.section import Section
from tis_ray.selectors.gathered import gathering
from tis_ray.selectors.ordering import Ordering, Scores, checked_budget
from tis_ray.selectors.protocol import Layout, Rounds, TopShard

PROVIDED = ("features", "groups", "lengths", "target", "weights", "seed")
"""Parameters that a study fills in by name; all others are settings.

features: unit vectors of the pool. groups: each query's source. lengths: response tokens of each
candidate. target: the lengths of the round-robin subset, in its order. weights: of the queries.
seed: of a draw; a selector that takes one is run for each seed of the study.
"""


@dataclass(frozen=True, kw_only=True)
class Selector(Method):
    """A rule that turns scores into an ordering.

    coordinate: (layout, budget, **params) -> rounds of calls, ending in the ordering; its
        keyword-only arguments are the selector's parameters.
    shard: (scores_Mn, offset) -> the object that answers those calls for some of the columns.
    arguments: settings -> parameters, if their names or values differ from the settings'.
    prior: its place, from 0, among the methods that the paper prefers for small and for large
        budgets; None if the paper prefers others.
    """

    coordinate: Callable[..., Rounds]
    shard: Callable[[Scores, int], object] = TopShard
    arguments: Callable[[Any], dict[str, object]] | None = None
    prior: tuple[int | None, int | None] = (None, None)

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters that it takes."""
        return [argument.name for argument in keyword_only(self.coordinate)]

    @property
    def needed(self) -> list[str]:
        """Names of the parameters that have no default."""
        return [a.name for a in keyword_only(self.coordinate) if a.default is a.empty]

    @property
    def draws(self) -> bool:
        """Whether it draws at random, so that a study has one ordering for each seed."""
        return "seed" in self.parameters

    def params(self, settings: Section) -> dict[str, object]:
        """Return the parameters that correspond to these settings."""
        if self.arguments is not None:
            return self.arguments(settings)
        return {name: getattr(settings, name) for name in type(settings).model_fields}

    def rounds(self, layout: Layout, budget: int, params: Mapping[str, object]) -> Rounds:
        """Return the coordinator for one run; InputError for a bad budget or parameter name."""
        for name in params:
            if name not in self.parameters:
                known = ", ".join(self.parameters)
                raise InputError(
                    f"{self.name}: parameter {name!r} is unknown{_nearest(name, self.parameters)}; "
                    + (f"known: {known}" if known else "this selector takes none")
                )
        for name in self.needed:
            if name not in params:
                raise InputError(
                    f"{self.name}: parameter {name!r} is missing; this selector requires it"
                )
        budget = checked_budget(budget, layout.candidates)
        return self._whole(self.coordinate(layout, budget, **params), budget, layout.candidates)

    def _whole(self, rounds: Rounds, budget: int, candidates: int) -> Rounds:
        """Run a coordinator; InputError unless it returns an ordering of `budget` candidates."""
        ordering = yield from rounds
        if not isinstance(ordering, Ordering) or len(ordering) != budget:
            is_ordering = isinstance(ordering, Ordering)
            what = f"{len(ordering)} candidates" if is_ordering else repr(ordering)[:60]
            raise InputError(f"{self.name}: returned {what} for a budget of {budget}")
        if ordering.indices.max() >= candidates:
            raise InputError(
                f"{self.name}: returned index {ordering.indices.max()}; there are {candidates} "
                "candidates"
            )
        return ordering


def as_selector(rule: object, name: str) -> Selector | None:
    """Return the selector that a class or a function stands for; None for anything else.

    A class with a `coordinate` is a distributed selector, whose instances are the shards. Any other
    callable is a plain function (scores_MN, budget) -> indices, best first, for which all scores are
    gathered. Keyword-only arguments of either that a study does not provide become its settings.
    """
    if isinstance(rule, type):
        coordinate = getattr(rule, "coordinate", None)
        if not callable(coordinate):
            return None
        return Selector(
            name=getattr(rule, "name", name),
            label=getattr(rule, "label", ""),
            version=getattr(rule, "version", 1),
            summary=summary_of(rule),
            Settings=getattr(rule, "Settings", None) or settings_of(coordinate, name, PROVIDED),
            coordinate=coordinate,
            shard=rule,
        )
    if callable(rule):
        name = name.rpartition(".")[2]
        gather, whole = gathering(rule, name)
        return Selector(
            name=name,
            summary=summary_of(rule),
            Settings=settings_of(rule, name, PROVIDED),
            coordinate=gather,
            shard=whole,
        )
    return None


SELECTORS: Methods[Selector] = Methods("selector", "tis_ray.selectors", Selector, as_selector)


def find_selector(rule: str | Selector | Callable[..., object]) -> Selector:
    """Return the selector that a name, `module:attribute`, function or spec stands for.

    Raises InputError for an unknown name, listing the known ones and the nearest.
    """
    if isinstance(rule, Selector):
        return rule
    if isinstance(rule, str):
        return SELECTORS.find(rule)
    name = getattr(rule, "__name__", type(rule).__name__)
    selector = as_selector(rule, "function" if name == "<lambda>" else name)
    if selector is None:
        raise InputError(
            f"selector: a {type(rule).__name__} is not a selector; give a name, a function "
            "(scores_MN, budget) -> indices, or a Selector"
        )
    return selector


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
