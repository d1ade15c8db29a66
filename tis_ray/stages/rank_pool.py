"""The ordering stage: the pool ranked by each selector, to the largest budget; budgets are its prefixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from tis_ray.analysis.study_values import Method, StageCost
from tis_ray.distributed.held_scores import HeldScores, hold_scores, score_shards
from tis_ray.errors import InputError
from tis_ray.selectors import BASELINE, Ordering, Selector, find_selector
from tis_ray.selectors.constraints import Filled
from tis_ray.stages.constrain import Constrainer
from tis_ray.stages.context import Context
from tis_ray.stages.draws import Draw, draws_of
from tis_ray.stages.ordering_artifact import StudyOrdering, ids_and_sources, ordering_table
from tis_ray.stages.ordering_from_file import given_ordering
from tis_ray.stages.pool_features import PoolFeatures
from tis_ray.stages.rows_to_scores import Represented
from tis_ray.stages.targets import ChosenScores, Targets
from tis_ray.store import (
    Artifact,
    fingerprint,
    read_npy,
)
from tis_ray.store.score_matrix import ScoreMatrix
from tis_ray.store.sides import Side

VERSION = 3
"""Of `ordering-*`; the selectors have their own. 3: the manifest names the rows."""

Provided = tuple[Any, object]
"""What a selector is given beside scores and settings, and what names it in fingerprints."""


def order_all(
    represented: Represented, context: Context, pool: Side, query: Side
) -> list[StudyOrdering]:
    """Rank the pool by every selector that the study has for a representation."""
    if represented.method.gives == "ordering":
        return [given_ordering(represented.method, context, pool, query)]
    with ExitStack() as actors:
        orderer = _Orderer(represented, context, pool, query, actors)
        return [
            orderer.logged(selector, seed)
            for selector in map(find_selector, context.config.selectors(represented.name))
            for seed in (context.config.seed if selector.draws else [None])
        ]


def order_draws(
    represented: Represented, context: Context, pool: Side, query: Side
) -> list[StudyOrdering]:
    """Select anew in each draw of the study, by every selector of a representation that draws nothing itself.

    Orderings that were given as they are cannot be made anew.
    """
    if represented.method.gives == "ordering":
        return []
    orderings: list[tuple[StudyOrdering, bool]] = []
    with ExitStack() as actors:
        whole = _Orderer(represented, context, pool, query, actors)
        for draw in draws_of(context.config.draws):
            orderer = _Orderer(represented, context, pool, query, actors, draw, whole)
            orderings += [
                orderer.order(selector)
                for selector in map(find_selector, context.config.selectors(represented.name))
                if not selector.draws
            ]
    if orderings:
        _log_draws(represented.name, orderings, context)
    return [ordering for ordering, _ in orderings]


def _log_draws(
    representation: str, made: Sequence[tuple[StudyOrdering, bool]], context: Context
) -> None:
    """Say in one line what all draws of a representation took."""
    manifests = [ordering.artifact.manifest() for ordering, _ in made]
    reused = all(was for _, was in made)
    context.log.finished(
        StageCost(
            stage=f"draws {representation}",
            kind="ordering",
            artifact=str(context.root / f"ordering-{representation}-*"),
            seconds=sum(manifest.seconds for manifest in manifests),
            reused=reused,
            rows=sum(manifest.rows for manifest in manifests),
            quarantined=0,
            peak_mb=max(manifest.peak_mb for manifest in manifests),
        ),
        f"selected anew {len(manifests)} times",
    )


class _Orderer:
    """Orders the candidates of one score matrix; provides what a selector needs beside it.

    Actors hold the scores from the first selector that has work to do until `actors` is closed.
    draw: orders what it selects from alone, by the scores that `whole` holds.
    """

    def __init__(
        self,
        represented: Represented,
        context: Context,
        pool: Side,
        query: Side,
        actors: ExitStack,
        draw: Draw | None = None,
        whole: _Orderer | None = None,
    ) -> None:
        assert represented.scores is not None
        self.draw, self.whole = draw, whole
        self.representation, self.scores = represented.name, represented.scores
        self.features, self.context, self.actors = represented.pool_features, context, actors
        self.config, self.log = context.config, context.log
        self.pool, self.query = pool, query
        self.columns_N = read_npy(self.scores / "columns.npy")
        self.queries_M = read_npy(self.scores / "queries.npy")
        self.constrainer = Constrainer(self.config, pool)
        self.kept_N: np.ndarray | None = None
        self.chosen_M: np.ndarray | None = None
        if draw is not None:
            self.kept_N = draw.kept(self.columns_N)
            facts = ids_and_sources(query, self.queries_M)
            self.chosen_M = draw.chosen([facts[row][1] for row in self.queries_M.tolist()])
            self.columns_N = self.columns_N[self.kept_N]
            self.queries_M = self.queries_M[self.chosen_M]
        if self.config.budget_unit == "examples" and max(self.config.budget) > len(self.columns_N):
            where = "" if draw is None else " in one draw (`draws.pool`)"
            raise InputError(
                f"budget: {max(self.config.budget)} exceeds the {len(self.columns_N)} pool rows that "
                f"have a {self.representation} score{where}; lower the budget or enlarge the pool"
            )
        self.targets = Targets(self.config.constraints, query, self.queries_M)

    def logged(self, selector: Selector, seed: int | None = None) -> StudyOrdering:
        """Rank the pool by one selector and say so."""
        with self.log.needed_by(Method(self.representation, selector.name)):
            ordering, reused = self.order(selector, seed)
            label = ordering.name.replace("-", " ", 1)
            self.log.made("ordering", label, ordering.artifact, reused)
        return ordering

    def order(self, selector: Selector, seed: int | None = None) -> tuple[StudyOrdering, bool]:
        """Rank the pool by one selector, over score shards held by actors; say whether that was done before."""
        settings = self.config.settings_of(selector)
        provided = self._provided(selector, seed)
        artifact = Artifact(
            self.context.root,
            f"ordering-{self.representation}-{selector.name}",
            {
                "scores": self.scores.fingerprint,
                "selector": selector.identity(settings),
                "provided": {name: known for name, (_, known) in provided.items()},
                "subsets": self.constrainer.identity,
                "features": self._spacing_features and self._spacing_features.identity,
                **({"draw": self.draw.identity} if self.draw else {}),
            },
            VERSION,
        )
        number = None if self.draw is None else self.draw.number
        ordering = StudyOrdering(self.representation, selector.name, artifact, seed, number)
        reused = artifact.complete
        if not reused:
            clock = artifact.clock()
            params = {name: value for name, (value, _) in provided.items()}
            rows, filled, ranked = self._fill(selector, selector.params(settings) | params)
            table = self._named(rows, ranked)
            ordering.commit(table, filled, self.pool, self.query, clock.seconds)
        return ordering, reused

    @cached_property
    def held(self) -> HeldScores | ChosenScores:
        """The scores in the memory of actors."""
        if self.whole is not None:
            assert self.kept_N is not None
            assert self.chosen_M is not None
            whole = self.whole.held
            assert isinstance(whole, HeldScores)
            return ChosenScores(whole.part(self.kept_N), self.chosen_M)
        return self.actors.enter_context(
            hold_scores(score_shards(self.scores), self.context.cluster.actors)
        )

    @cached_property
    def _spacing_features(self) -> PoolFeatures | None:
        """The features that near-duplicates are found by, if any are to be kept out."""
        if self.config.constraints.radius is None:
            return None
        return self._pool_features

    def _fill(
        self, selector: Selector, params: Mapping[str, Any]
    ) -> tuple[np.ndarray, list[Filled], Ordering]:
        """Return the rows of the largest budget, what each came to, and the ordering behind them."""
        longest: list[Ordering] = []

        def ranked(length: int) -> np.ndarray:
            longest[:] = [self.targets.select(self.held, selector, length, params)]
            rows: np.ndarray = self.columns_N[longest[0].indices]
            return rows

        candidates = len(self.columns_N)
        if "target" in params:
            candidates = len(params["target"])
        try:
            rows, filled = self.constrainer.fill(ranked, candidates, self._spacing_features)
        except InputError as error:
            raise InputError(f"{self.representation} {selector.name}: {error}") from None
        return rows, filled, longest[0]

    def _provided(self, selector: Selector, seed: int | None) -> dict[str, Provided]:
        """Return what the selector needs beside scores and settings, by the parameters' names."""
        providers: dict[str, Callable[[], Provided]] = {
            "features": self._features,
            "groups": lambda: self._groups(selector),
            "lengths": self._lengths,
            "target": self._target,
            "seed": lambda: (seed, seed),
        }
        wanted = [name for name in providers if name in selector.parameters]
        provided = {name: providers[name]() for name in wanted}
        weights_M = self.targets.weights_M
        if weights_M is None or "target" in provided:  # whose rows were chosen by the weights
            return provided
        if "weights" not in selector.parameters:
            raise InputError(
                f"constraints.query_weights: {selector.name} cannot weight queries; drop it from "
                "`selector`, or drop the weights"
            )
        return {**provided, "weights": (weights_M, weights_M.tolist())}

    def _features(self) -> Provided:
        return self._pool_features, self._pool_features.identity

    @cached_property
    def _pool_features(self) -> PoolFeatures:
        assert self.features is not None  # the config was checked
        return PoolFeatures(self.features, self.columns_N, self.kept_N)

    def _groups(self, selector: Selector) -> Provided:
        """Return the source of each query that has scores: its subtask."""
        facts = ids_and_sources(self.query, self.queries_M)
        sources = [facts[row][1] for row in self.queries_M.tolist()]
        if len(set(sources)) < 2:
            raise InputError(
                f"selector: {selector.name} compares subtasks, and every query has the source "
                f"{sources[0]!r}; name each query's subtask in its `source`"
            )
        return sources, sources

    def _lengths(self) -> Provided:
        """Return the response tokens of each candidate."""
        lengths_N = self._candidate_lengths
        return lengths_N, fingerprint(lengths_N.tolist())

    def _target(self) -> Provided:
        """Return the lengths of the baseline's rows, in its order."""
        target = self.logged(find_selector(BASELINE))
        places = np.searchsorted(self.columns_N, target.table()["index"].to_numpy())
        return self._candidate_lengths[places], target.artifact.fingerprint

    @cached_property
    def _candidate_lengths(self) -> np.ndarray:
        facts = self.pool.usable_rows
        lengths_N: np.ndarray = facts.responses_N[facts.places(self.columns_N)].astype(np.int64)
        return lengths_N

    def _named(self, rows: np.ndarray, ranked: Ordering) -> pa.Table:
        """Return the ordering's table: pool rows with score, query, ids and sources."""
        place_of = dict(
            zip(self.columns_N[ranked.indices].tolist(), range(len(ranked)), strict=True)
        )
        places = np.array([place_of.get(row, -1) for row in rows.tolist()])
        scores, queries = ranked.scores[places].astype(np.float64), ranked.queries[places]
        for k in np.flatnonzero(places < 0).tolist():  # had to be in, and ranks too low to be there
            scores[k], queries[k] = self._best(int(rows[k]))
        queries_M = self.queries_M
        query_ids = ids_and_sources(self.query, queries_M)
        # -1: no query pulled the row.
        pulled = np.where(queries < 0, -1, queries_M[np.maximum(queries, 0)])
        names = [query_ids[q][0] if q >= 0 else None for q in pulled.tolist()]
        return ordering_table(self.pool, rows, scores, pulled, names, ranked.selector)

    def _best(self, row: int) -> tuple[float, int]:
        """Return a row's best score and its query."""
        columns_N = read_npy(self.scores / "columns.npy")
        column = int(np.searchsorted(columns_N, row))
        if column == len(columns_N) or columns_N[column] != row:
            raise InputError(
                f"constraints.include: {ids_and_sources(self.pool, np.array([row]))[row][0]!r} has no "
                f"{self.representation} score; see the quarantine"
            )
        scores_M = ScoreMatrix(self.scores.path).read(np.array([column]))[:, 0]
        if self.chosen_M is not None:
            scores_M = scores_M[self.chosen_M]
        return float(scores_M.max()), int(scores_M.argmax())
