"""Orderings: one for each representation and selector, at the largest budget; budgets are prefixes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray.config import Config
from tis_ray.errors import InputError
from tis_ray.representations import combine
from tis_ray.stages.cluster import Cluster
from tis_ray.stages.featurize import FeatureSet
from tis_ray.stages.log import RunLog, peak_mb
from tis_ray.stages.select import ShardRef, select_distributed
from tis_ray.stages.tokens import Side
from tis_ray.store import Artifact, fingerprint, write_parquet


@dataclass(frozen=True)
class StudyOrdering:
    """An ordering of the pool: `ordering.parquet` with index (row of the pool), rank, score, query
    (row of the query set), id, source and query_id.

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
    """Rank the pool by every selector of the study but random, which is a baseline anyway."""
    study = _Orderer(representation, scores, features, config, pool, query, cluster, log)
    found: list[StudyOrdering] = []
    for selector in config.selector:
        if selector == "length_matched":
            found += [study.order(selector, seed) for seed in config.seed]
        elif selector != "random":
            found.append(study.order(selector))
    return found


class _Orderer:
    """Orders the candidates of one score matrix; knows what each selector needs beside it."""

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
    ) -> None:
        self.representation, self.scores, self.features = representation, scores, features
        self.config, self.pool, self.query = config, pool, query
        self.cluster, self.log = cluster, log
        self.columns_N = np.load(scores / "columns.npy")
        self.budget = max(config.budget)
        if self.budget > len(self.columns_N):
            raise InputError(
                f"budget: {self.budget} exceeds the {len(self.columns_N)} pool rows that have a "
                f"{representation} score; lower the budget or enlarge the pool"
            )

    def order(self, selector: str, seed: int | None = None) -> StudyOrdering:
        """Rank the pool by one selector, over score shards held by actors."""
        settings, params = self._parameters(selector, seed)
        artifact = Artifact(
            self.config.artifact_root,
            f"ordering-{self.representation}-{selector}",
            {
                "scores": self.scores.fingerprint,
                "selector": selector,
                "budget": self.budget,
                "parameters": settings,
            },
        )
        ordering = StudyOrdering(self.representation, selector, artifact, seed)
        reused = artifact.complete
        if not reused:
            start = time.monotonic()
            found = select_distributed(
                score_shards(self.scores), selector, self.budget, self.cluster.actors, **params
            )
            write_parquet(ordering.file, self._named(found.to_table(), found))
            artifact.commit(rows=self.budget, seconds=time.monotonic() - start, peak_mb=peak_mb())
        self.log.made(ordering.name.replace("-", " ", 1), artifact, reused)
        return ordering

    def _parameters(self, selector: str, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Return a selector's settings (for the fingerprint) and its arguments."""
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
                return dict(params), {**params, "features": self._pool_features()}
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

    def _pool_features(self) -> PoolFeatures:
        if self.features is None or "pool" not in self.features.shards:
            raise InputError(
                f"selector: knn_kde compares pool rows with each other and needs their features; "
                f"{self.representation} keeps none (set less.scoring to `store`, or drop knn_kde)"
            )
        return PoolFeatures(self.features)

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

    def _named(self, table: pa.Table, found: Any) -> pa.Table:
        """Return the ordering in row numbers of pool and query set, with ids and sources."""
        queries_M = np.load(self.scores / "queries.npy")
        index = self.columns_N[found.indices]
        by_row, query_ids = _facts(self.pool, index), _facts(self.query, queries_M)
        # -1: no query pulled the row.
        pulled = np.where(found.queries < 0, -1, queries_M[np.maximum(found.queries, 0)])
        table = table.set_column(0, "index", pa.array(index, pa.int64()))
        place = table.schema.get_field_index("query")
        table = table.set_column(place, "query", pa.array(pulled, pa.int32()))
        table = table.append_column("id", pa.array([by_row[i][0] for i in index.tolist()]))
        table = table.append_column("source", pa.array([by_row[i][1] for i in index.tolist()]))
        names = [query_ids[q][0] if q >= 0 else None for q in pulled.tolist()]
        return table.append_column("query_id", pa.array(names, pa.string()))


class PoolFeatures:
    """Features of candidates by their column in the scores, as unit vectors whose dot products are
    the candidates' similarities; see `tis_ray.selectors.density.Features`."""

    def __init__(self, features: FeatureSet) -> None:
        self.features = features
        shards = range(features.shards["pool"])
        self.starts = np.cumsum([0, *(len(features.rows("pool", shard)) for shard in shards)])

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Return (n, C * K) float32 features; reads each shard concerned once."""
        owners = np.searchsorted(self.starts, indices, side="right") - 1
        parts, order = [], []
        for shard in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == shard)
            values_ECK = self.features.read("pool", shard)[0][indices[mine] - self.starts[shard]]
            # What was rounded is a little off the unit sphere.
            norms = np.linalg.norm(values_ECK, axis=2, keepdims=True)
            parts.append(combine(values_ECK / norms, self.features.weights_C))
            order.append(mine)
        joined: np.ndarray = np.concatenate(parts)[np.argsort(np.concatenate(order))]
        return joined


def score_shards(scores: Artifact) -> list[ShardRef]:
    """Return the column shards of a scores artifact, as selector actors read them."""
    refs, start = [], 0
    for path in sorted(scores.path.glob("scores-*.npy")):
        stop = start + np.load(path, mmap_mode="r").shape[1]
        if stop > start:
            refs.append(ShardRef(str(path), start, stop))
        start = stop
    return refs


def _facts(side: Side, rows: np.ndarray) -> dict[int, tuple[Any, ...]]:
    """Return id and source of the given rows, reading one shard at a time."""
    wanted, found = set(rows.tolist()), {}
    for shard in range(side.shards):
        part = side.token_facts(shard).select(["row", "id", "source"]).to_pydict()
        for row, name, source in zip(part["row"], part["id"], part["source"], strict=True):
            if row in wanted:
                found[row] = (name, source)
    return found
