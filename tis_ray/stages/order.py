"""Orderings: one for each representation and selector, at the largest budget; budgets are prefixes."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray.config import Config
from tis_ray.errors import InputError
from tis_ray.selectors import Ordering, find_selector
from tis_ray.selectors.constraints import Filled
from tis_ray.stages.cluster import Cluster
from tis_ray.stages.constrain import Constrainer
from tis_ray.stages.featurize import FeatureSet, SideFeatures
from tis_ray.stages.log import RunLog, peak_mb
from tis_ray.stages.matrix import ScoreMatrix
from tis_ray.stages.select import HeldScores, ShardRef, hold_scores
from tis_ray.stages.targets import Targets
from tis_ray.stages.tokens import Side
from tis_ray.store import Artifact, fingerprint, write_json, write_parquet


@dataclass(frozen=True)
class StudyOrdering:
    """An ordering of the pool: `ordering.parquet` with index (row of the pool), rank, score, query
    (row of the query set), id, source and query_id; `budgets.json` says what each budget came to.

    seed: the one seed it is for, of a selector that draws; None if it is for all of them.
    """

    representation: str
    selector: str
    artifact: Artifact
    seed: int | None = None

    @property
    def name(self) -> str:
        """What tells it from the study's other orderings."""
        tail = "" if self.seed is None else f"-seed-{self.seed}"
        return f"{self.representation}-{self.selector}{tail}"

    @property
    def file(self) -> Path:
        """The ordering's file."""
        return self.artifact / "ordering.parquet"

    def table(self) -> pa.Table:
        """Read the ordering, best first."""
        return pq.read_table(self.file)

    def filled(self) -> dict[int, Filled]:
        """Read what each budget came to; its subset is the ordering's first `rows` rows."""
        told = json.loads((self.artifact / "budgets.json").read_text())
        return {entry["budget"]: Filled(**entry) for entry in told}


def order_all(
    representation: str,
    scores: Artifact,
    features: FeatureSet | None,
    config: Config,
    pool: Side,
    query: Side,
    cluster: Cluster,
    log: RunLog,
) -> list[StudyOrdering]:
    """Rank the pool by every selector that the study has for a representation."""
    found: list[StudyOrdering] = []
    with ExitStack() as actors:
        study = _Orderer(
            representation, scores, features, config, pool, query, cluster, log, actors
        )
        for selector in config.selectors(representation):
            if selector == "length_matched":
                found += [study.order(selector, seed) for seed in config.seed]
            else:
                found.append(study.order(selector))
    return found


class _Orderer:
    """Orders the candidates of one score matrix; knows what each selector needs beside it.

    Actors hold the scores from the first selector that has work to do until `actors` is closed.
    """

    def __init__(
        self,
        representation: str,
        scores: Artifact,
        features: FeatureSet | None,
        config: Config,
        pool: Side,
        query: Side,
        cluster: Cluster,
        log: RunLog,
        actors: ExitStack,
    ) -> None:
        self.representation, self.scores, self.features = representation, scores, features
        self.config, self.pool, self.query = config, pool, query
        self.cluster, self.log, self.actors = cluster, log, actors
        self.columns_N = np.load(scores / "columns.npy")
        self.constrainer = Constrainer(config, pool)
        if config.budget_unit == "examples" and max(config.budget) > len(self.columns_N):
            raise InputError(
                f"budget: {max(config.budget)} exceeds the {len(self.columns_N)} pool rows that "
                f"have a {representation} score; lower the budget or enlarge the pool"
            )
        self.targets = Targets(config.constraints, query, np.load(scores / "queries.npy"))

    def order(self, selector: str, seed: int | None = None) -> StudyOrdering:
        """Rank the pool by one selector, over score shards held by actors."""
        with self.log.needed_by(f"{self.representation} + {selector}"):
            settings, params = self._parameters(selector, seed)
            artifact = Artifact(
                self.config.artifact_root,
                f"ordering-{self.representation}-{selector}",
                {
                    "scores": self.scores.fingerprint,
                    "selector": selector,
                    "parameters": settings,
                    "subsets": self.constrainer.identity,
                    "features": self._spacing_features and self._spacing_features.identity,
                },
            )
            ordering = StudyOrdering(self.representation, selector, artifact, seed)
            reused = artifact.complete
            if not reused:
                clock = artifact.clock()
                rows, filled, ranked = self._fill(selector, params)
                write_parquet(ordering.file, self._named(rows, ranked))
                write_json(artifact / "budgets.json", [asdict(entry) for entry in filled])
                artifact.commit(rows=len(rows), seconds=clock.seconds, peak_mb=peak_mb())
            self.log.made(ordering.name.replace("-", " ", 1), artifact, reused)
        return ordering

    @cached_property
    def held(self) -> HeldScores:
        """The scores in the memory of actors."""
        return self.actors.enter_context(
            hold_scores(score_shards(self.scores), self.cluster.actors)
        )

    @cached_property
    def _spacing_features(self) -> PoolFeatures | None:
        """What tells near-duplicates, if any are to be kept out."""
        if self.config.constraints.radius is None:
            return None
        return self._pool_features("constraints.radius")

    def _fill(
        self, selector: str, params: dict[str, Any]
    ) -> tuple[np.ndarray, list[Filled], Ordering]:
        """Return the rows of the largest budget, what each came to, and the ordering behind them."""
        found: list[Ordering] = []

        def ranked(length: int) -> np.ndarray:
            found[:] = [self.targets.select(self.held, selector, length, params)]
            rows: np.ndarray = self.columns_N[found[0].indices]
            return rows

        candidates = len(self.columns_N)
        if selector == "length_matched":
            candidates = len(params["target"])
        rows, filled = self.constrainer.fill(ranked, candidates, self._spacing_features)
        return rows, filled, found[0]

    def _parameters(self, selector: str, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Return a selector's settings (for the fingerprint) and its arguments."""
        settings, params = self._own_parameters(selector, seed)
        weights_M = self.targets.weights_M
        if weights_M is None or selector == "length_matched":  # whose target has the weights
            return settings, params
        if "weights" not in find_selector(selector).parameters:
            raise InputError(
                f"constraints.query_weights: {selector} cannot weigh queries; drop it from "
                "`selector`, or the weights"
            )
        return settings, {**params, "weights": weights_M}

    def _own_parameters(self, selector: str, seed: int | None) -> tuple[Any, dict[str, Any]]:
        if selector == "uot":
            uot = self.config.uot
            marginals = {name: getattr(uot, name) for name in ("reg_m1", "reg_m2")}
            finite = {n: math.inf if value is None else value for n, value in marginals.items()}
            return uot.model_dump(mode="json"), {"reg": uot.reg, **finite}
        if selector in ("knn_uniform", "knn_kde"):
            knn = self.config.knn
            params: dict[str, Any] = {
                "neighbours": knn.neighbours,
                "alpha": knn.alpha,
                "C": knn.scale,
                "ties": knn.ties,
            }
            if selector == "knn_kde":
                params |= {"density_neighbours": knn.density_neighbours, "sigma": knn.sigma}
                return dict(params), {
                    **params,
                    "features": self._pool_features("selector: knn_kde"),
                }
            return dict(params), params
        if selector == "subtask":
            groups = self._subtasks()
            return groups, {"groups": groups}
        if selector == "length_matched":
            assert seed is not None
            target = self.order("round_robin")
            lengths_N = self._lengths()
            places = np.searchsorted(self.columns_N, target.table()["index"].to_numpy())
            settings = {"seed": seed, "lengths": fingerprint(lengths_N.tolist())}
            settings["target"] = target.artifact.fingerprint
            return settings, {"lengths": lengths_N, "target": lengths_N[places], "seed": seed}
        return {}, {}

    def _pool_features(self, field: str) -> PoolFeatures:
        if self.features is None or "pool" not in self.features.shards:
            raise InputError(
                f"{field} compares pool rows with each other and needs their features; "
                f"{self.representation} keeps none (set less.scoring to `store`, or drop {field})"
            )
        return PoolFeatures(self.features, self.columns_N)

    def _subtasks(self) -> list[str]:
        """Return the source of each query that has scores: its subtask."""
        facts = _facts(self.query, np.load(self.scores / "queries.npy"))
        rows = np.load(self.scores / "queries.npy").tolist()
        sources = [facts[row][1] for row in rows]
        if len(set(sources)) < 2:
            raise InputError(
                f"selector: subtask compares subtasks, and every query has the source "
                f"{sources[0]!r}; name each query's subtask in its `source`"
            )
        return sources

    def _lengths(self) -> np.ndarray:
        """Return the response tokens of each candidate."""
        counts: dict[int, int] = {}
        for table in self.pool.token_tables():
            part = table.select(["row", "response_tokens"]).to_pydict()
            counts.update(zip(part["row"], part["response_tokens"], strict=True))
        return np.array([counts[row] for row in self.columns_N.tolist()])

    def _named(self, rows: np.ndarray, ranked: Ordering) -> pa.Table:
        """Return the ordering's table: pool rows with score, query, ids and sources."""
        place_of = dict(
            zip(self.columns_N[ranked.indices].tolist(), range(len(ranked)), strict=True)
        )
        places = np.array([place_of.get(row, -1) for row in rows.tolist()])
        scores, queries = ranked.scores[places].astype(np.float64), ranked.queries[places]
        for k in np.flatnonzero(places < 0).tolist():  # had to be in, and ranks too low to be there
            scores[k], queries[k] = self._best(int(rows[k]))
        queries_M = np.load(self.scores / "queries.npy")
        by_row, query_ids = _facts(self.pool, rows), _facts(self.query, queries_M)
        # -1: no query pulled the row.
        pulled = np.where(queries < 0, -1, queries_M[np.maximum(queries, 0)])
        return pa.table(
            {
                "index": pa.array(rows, pa.int64()),
                "rank": pa.array(np.arange(len(rows)), pa.int64()),
                "score": pa.array(scores, pa.float64()),
                "query": pa.array(pulled, pa.int32()),
                "id": pa.array([by_row[row][0] for row in rows.tolist()], pa.string()),
                "source": pa.array([by_row[row][1] for row in rows.tolist()], pa.string()),
                "query_id": pa.array(
                    [query_ids[q][0] if q >= 0 else None for q in pulled.tolist()], pa.string()
                ),
            }
        ).replace_schema_metadata({"selector": ranked.selector})

    def _best(self, row: int) -> tuple[float, int]:
        """Return a row's best score and its query."""
        column = int(np.searchsorted(self.columns_N, row))
        if column == len(self.columns_N) or self.columns_N[column] != row:
            raise InputError(
                f"constraints.include: {_facts(self.pool, np.array([row]))[row][0]!r} has no "
                f"{self.representation} score; see the quarantine"
            )
        scores_M = ScoreMatrix(self.scores.path).read(np.array([column]))[:, 0]
        return float(scores_M.max()), int(scores_M.argmax())


class PoolFeatures(SideFeatures):
    """The pool's, by column of the scores or by row of the pool."""

    def __init__(self, features: FeatureSet, columns_N: np.ndarray) -> None:
        super().__init__(features, "pool")
        self.columns_N = columns_N

    @property
    def identity(self) -> str:
        """What names the features."""
        return self.features.artifact.fingerprint

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the same for rows of the pool."""
        return self.rows(np.searchsorted(self.columns_N, rows))


def score_shards(scores: Artifact) -> list[ShardRef]:
    """Return the column shards of a scores artifact, as selector actors read them."""
    matrix = ScoreMatrix(scores.path)
    bounds = pairwise(matrix.starts.tolist())
    return [
        ShardRef(str(path), start, stop)
        for path, (start, stop) in zip(matrix.files, bounds, strict=True)
        if stop > start
    ]


def _facts(side: Side, rows: np.ndarray) -> dict[int, tuple[Any, ...]]:
    """Return id and source of the given rows, reading one shard at a time."""
    wanted, found = set(rows.tolist()), {}
    for shard in range(side.shards):
        part = side.token_facts(shard).select(["row", "id", "source"]).to_pydict()
        for row, name, source in zip(part["row"], part["id"], part["source"], strict=True):
            if row in wanted:
                found[row] = (name, source)
    return found
