"""Query weights, and several target tasks that each have a share of the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tis_ray.distributed.held_scores import HeldScores
from tis_ray.errors import InputError
from tis_ray.selectors import Ordering, Selector
from tis_ray.selectors.merge import merge_orderings
from tis_ray.settings import ConstraintsConfig
from tis_ray.stages.constrain import known_name
from tis_ray.store.sides import Side

_PER_QUERY = ("weights", "groups")
"""Parameters of selectors that have an entry for each query."""


class ChosenScores:
    """Held scores of chosen queries, some of them more than once; orderings count among these."""

    def __init__(self, held: HeldScores, chosen_M: np.ndarray) -> None:
        self.held, self.chosen_M = held, chosen_M

    def select(
        self, selector: Selector, length: int, queries: Sequence[int] | None = None, **params: Any
    ) -> Ordering:
        """Select as `HeldScores.select` does."""
        chosen = self.chosen_M if queries is None else self.chosen_M[list(queries)]
        return self.held.select(selector, length, queries=chosen.tolist(), **params)


class Targets:
    """The queries of one score matrix, by weight and by task.

    weights_M: None where all are equal. tasks: share and rows of the scores, for each target task.
    """

    def __init__(self, settings: ConstraintsConfig, query: Side, queries_M: np.ndarray) -> None:
        facts: dict[int, tuple[str, str]] = {}
        for shard in range(query.shards):
            part = query.token_facts(shard).select(["row", "id", "source"]).to_pydict()
            named = zip(part["id"], part["source"], strict=True)
            facts |= dict(zip(part["row"], named, strict=True))
        names = [facts[row] for row in queries_M.tolist()]
        self.weights_M = _weights(settings.query_weights, names)
        self.tasks = _tasks(settings.targets, [source for _, source in names])

    def select(
        self,
        held: HeldScores | ChosenScores,
        selector: Selector,
        length: int,
        params: Mapping[str, Any],
    ) -> Ordering:
        """Return the first `length` candidates by a selector, each task having its share of them."""
        if not self.tasks:
            return held.select(selector, length, **params)
        orderings = []
        for _, places in self.tasks:
            own = {
                name: np.asarray(value)[places] if name in _PER_QUERY else value
                for name, value in params.items()
            }
            ordering = held.select(selector, length, queries=places.tolist(), **own)
            pulled = np.where(ordering.queries < 0, -1, places[np.maximum(ordering.queries, 0)])
            orderings.append(replace(ordering, queries=pulled))
        return merge_orderings(orderings, [share for share, _ in self.tasks], length)


def _weights(given: dict[str, float], names: list[tuple[str, str]]) -> np.ndarray | None:
    if not given:
        return None
    for name in given:
        known = [*dict.fromkeys(source for _, source in names), *(own for own, _ in names)]
        known_name(name, known, "constraints.query_weights", "an id or a source of a query")
    return np.array([given.get(own, given.get(source, 1.0)) for own, source in names])


def _tasks(given: dict[str, float], sources: list[str]) -> list[tuple[float, np.ndarray]]:
    if not given:
        return []
    known = list(dict.fromkeys(sources))
    for name in given:
        known_name(name, known, "constraints.targets", "a source of a query")
    if left := [source for source in known if source not in given]:
        raise InputError(
            f"constraints.targets: the queries of source {left[0]!r} have no share; give every source "
            "of the queries a share, or leave those rows out of the query set"
        )
    return [(share, np.flatnonzero([s == name for s in sources])) for name, share in given.items()]
