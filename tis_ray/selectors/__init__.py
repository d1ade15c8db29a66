"""From scores to an ordering of the pool: pure functions of arrays.

`select` is the way in. A selector is a coordinator and a shard class (see `protocol`), and one line
in `SELECTORS`; with that it also runs over column shards on a cluster, with the same result.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tis_ray.errors import InputError
from tis_ray.selectors import (
    doubly_greedy,
    knn_kde,
    knn_uniform,
    length_matched,
    neighbours,
    round_robin,
    subtask,
    transport,
    uniform,
    uot,
)
from tis_ray.selectors.ordering import (
    Extent,
    Ordering,
    Scores,
    checked_budget,
    checked_shape,
    first_non_finite,
    require_finite,
)
from tis_ray.selectors.protocol import Layout, Rounds, TopShard, answer_locally, drive

__all__ = ["SELECTORS", "Ordering", "Selector", "find_selector", "select"]


@dataclass(frozen=True)
class Selector:
    """A rule that turns scores into an ordering.

    name: as given to `select`.
    coordinate: (layout, budget, **params) -> rounds of calls, ending in the ordering; its
        keyword-only arguments are the selector's parameters.
    shard: (scores_Mn, offset) -> the object that answers those calls for some of the columns.
    """

    name: str
    coordinate: Callable[..., Rounds]
    shard: Callable[[Scores, int], Any] = TopShard

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters that `select` passes on."""
        arguments = inspect.signature(self.coordinate).parameters.values()
        return [argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY]

    @property
    def needed(self) -> list[str]:
        """Names of the parameters that have no default."""
        arguments = inspect.signature(self.coordinate).parameters
        return [
            name for name in self.parameters if arguments[name].default is inspect.Parameter.empty
        ]

    def rounds(self, layout: Layout, budget: int, params: dict[str, Any]) -> Rounds:
        """Return the coordinator for one run; InputError on a bad budget or parameter name."""
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
                    f"{self.name}: parameter {name!r} is missing; this selector needs it"
                )
        budget = checked_budget(budget, layout.candidates)
        return self.coordinate(layout, budget, **params)


SELECTORS = {
    selector.name: selector
    for selector in (
        Selector("round_robin", round_robin.coordinate),
        Selector("doubly_greedy", doubly_greedy.coordinate, doubly_greedy.Shard),
        Selector("uot", uot.coordinate, transport.Shard),
        Selector("knn_uniform", knn_uniform.coordinate, neighbours.Shard),
        Selector("knn_kde", knn_kde.coordinate, neighbours.Shard),
        Selector("subtask", subtask.coordinate, subtask.Shard),
        Selector("length_matched", length_matched.coordinate),
        Selector("random", uniform.coordinate),
    )
}


def find_selector(name: str) -> Selector:
    """Return a selector by name; InputError lists the known ones and the nearest."""
    if name not in SELECTORS:
        known = ", ".join(SELECTORS)
        raise InputError(f"selector {name!r} is unknown{_nearest(name, SELECTORS)}; known: {known}")
    return SELECTORS[name]


def select(scores_MN: Scores, selector: str, budget: int, **params: Any) -> Ordering:
    """Rank the pool and return its best `budget` candidates.

    scores_MN: (M, N) float32 or float64, similarity of query i to candidate j, all finite; may be
        memory-mapped.
    selector: one of `SELECTORS`.
    budget: B examples, 1 <= B <= N. A smaller budget gives a prefix of the same ordering.
    params: the selector's own parameters, the keyword arguments of its `coordinate`.

    Equal scores are taken in the order of their index. Raises InputError on a bad argument, naming
    the (query, candidate) of the first score that is not finite.
    """
    rule = find_selector(selector)
    scores_MN = np.asarray(scores_MN)
    queries, candidates = checked_shape(scores_MN.shape, scores_MN.dtype)
    extent = Extent.of(scores_MN)
    rounds = rule.rounds(Layout(queries, (candidates,), extent), budget, params)
    if not extent.finite:
        require_finite(first_non_finite(scores_MN))
    return drive(rounds, answer_locally([rule.shard(scores_MN, 0)]))


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
