"""Workers that score one shard of the pool: from stored, streamed or exact features, or from rows at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pyarrow as pa

from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.distributed.shards import ShardFacts
from tis_ray.errors import InputError
from tis_ray.representations import Representation
from tis_ray.representations.similarity import QuerySide, Scored
from tis_ray.settings import Section
from tis_ray.stages.feature_recipe import Recipe
from tis_ray.stages.featurize import RowReader
from tis_ray.storage import Place
from tis_ray.store import TableRow, write_npy, write_parquet
from tis_ray.store.feature_views import FeatureSet
from tis_ray.store.sides import QUARANTINE, Side


class _Writer:
    """Writes the results of one shard; the scores come last and say that it is done."""

    KIND: ClassVar[str] = ""

    def __init__(self, out: Place, stride: int = 1) -> None:
        self.out, self.stride = out, stride

    def write_queries(self, rows_M: np.ndarray) -> None:
        write_npy(self.out / "queries.npy", rows_M)

    def write(
        self,
        shard: int,
        rows_N: np.ndarray,
        scored: Scored,
        columns: dict[str, np.ndarray],
        lost: list[QuarantinedRow] | None = None,
    ) -> int:
        facts = {name: pa.array(list(values)) for name, values in columns.items()}
        facts = {"row": pa.array(rows_N, pa.int64()), **facts}
        write_parquet(self.out / f"rows-{shard:05d}.parquet", pa.table(facts))
        if lost:
            write_parquet(
                self.out / f"lost-{shard:05d}.parquet", pa.Table.from_pylist(lost, QUARANTINE)
            )
        if scored.noise_ME is not None:
            write_npy(self.out / f"noise-{shard:05d}.npy", self._noise(rows_N, scored))
        write_npy(self.out / f"scores-{shard:05d}.npy", scored.scores_ME)
        return len(rows_N)

    def _noise(self, rows_N: np.ndarray, scored: Scored) -> np.ndarray:
        """Return (2, M, 1 + s) float64: the noise's sums and sums of squares, then s columns of scores and noise."""
        assert scored.noise_ME is not None
        noise = scored.noise_ME.astype(np.float64)
        sums = np.stack([noise.sum(axis=1), np.square(noise).sum(axis=1)])
        sampled = rows_N % self.stride == 0
        sample = np.stack([scored.scores_ME[:, sampled], scored.noise_ME[:, sampled]])
        return np.concatenate([sums[:, :, None], sample], axis=2)


class ScoreStored(_Writer):
    """Holds the queries' features; scores the stored features of one pool shard."""

    KIND = "stored features"

    def __init__(self, query: FeatureSet, pool: FeatureSet, out: Place, stride: int = 1) -> None:
        super().__init__(out, stride)
        self.pool, self.queries = pool, _query_side(query)
        self.count = query.count("query")
        self.write_queries(_query_rows(query))

    def __call__(self, shard: int) -> ShardFacts:
        """Write the scores of one pool shard."""
        start = time.monotonic()
        values_ECK, columns = self.pool.read("pool", shard)
        rows_N = self.pool.rows("pool", shard)
        scored = _scored(self.queries, self.count, values_ECK)
        count = self.write(shard, rows_N, scored, columns)
        return {"rows": count, "seconds": time.monotonic() - start}


class ScoreStreamed(_Writer):
    """Holds the model and the queries' features; featurises a pool shard and scores it at once."""

    KIND = "streamed features"

    def __init__(
        self,
        recipe: Recipe,
        query: FeatureSet,
        sides: dict[str, Side],
        wanted: np.ndarray | None,
        out: Place,
        stride: int = 1,
    ) -> None:
        super().__init__(out, stride)
        self.reader, self.wanted = RowReader(recipe, sides), wanted
        self.representation = recipe.build()
        self.queries = _query_side(query)
        self.count = query.count("query")
        self.write_queries(_query_rows(query))

    def __call__(self, shard: int) -> ShardFacts:
        """Write the scores of one pool shard."""
        start = time.monotonic()
        rows = _wanted_rows(self.reader, shard, self.wanted)
        features = self.representation.features(rows, "pool")
        kept = [i for i in range(len(rows)) if i not in features.unusable]
        scored = _scored(self.queries, self.count, features.values_ECK[kept])
        numbers = np.array([rows[i]["row"] for i in kept], dtype=np.int64)
        columns = {name: values[kept] for name, values in features.columns.items()}
        lost = _lost(rows, features.unusable, "pool")
        count = self.write(shard, numbers, scored, columns, lost)
        return {"rows": count, "seconds": time.monotonic() - start}


class ScoreExact(_Writer):
    """Holds the model and the queries' whole gradients."""

    KIND = "exact gradients"

    def __init__(
        self,
        recipe: Recipe,
        sides: dict[str, Side],
        wanted: np.ndarray | None,
        out: Place,
        stride: int = 1,
    ) -> None:
        super().__init__(out, stride)
        self.reader, self.wanted = RowReader(recipe, sides), wanted
        queries = [
            row for s in range(sides["query"].shards) for row in self.reader.rows("query", s)
        ]
        self.exact = recipe.method.exact(recipe.of, queries, recipe.weights_C)
        self.lost = _lost(queries, self.exact.unusable, "query")
        rows_M = [row["row"] for i, row in enumerate(queries) if i not in self.exact.unusable]
        self.write_queries(np.array(rows_M, dtype=np.int64))

    def __call__(self, shard: int) -> ShardFacts:
        """Write the scores of one pool shard."""
        start = time.monotonic()
        rows = _wanted_rows(self.reader, shard, self.wanted)
        exact = self.exact.scores(rows)
        kept = [i for i in range(len(rows)) if i not in exact.unusable]
        numbers = np.array([rows[i]["row"] for i in kept], dtype=np.int64)
        columns = {name: values[kept] for name, values in exact.columns.items()}
        lost = self.lost + _lost(rows, exact.unusable, "pool")
        count = self.write(shard, numbers, Scored(exact.scores_ME[:, kept], None), columns, lost)
        return {"rows": count, "seconds": time.monotonic() - start}


class ScoreRows(_Writer):
    """Holds what a representation without vectors makes of the whole pool."""

    def __init__(
        self,
        method: Representation,
        settings: Section,
        sides: dict[str, Side],
        out: Place,
        stride: int = 1,
    ) -> None:
        super().__init__(out, stride)
        pool, query = sides["pool"], sides["query"]
        self.rows = [pool.token_facts(s)["row"].to_numpy() for s in range(pool.shards)]
        self.starts = np.cumsum([0, *(len(rows) for rows in self.rows)]).tolist()
        self.name = method.name
        self.scorer = method.scorer(settings, _usable(pool), _usable(query))
        query_rows = np.concatenate([table["row"].to_numpy() for table in query.token_tables()])
        # A query that says nothing scores the same everywhere and would pick by number.
        silent = self.scorer.unusable
        self.count = len(query_rows)
        self.spoken = np.setdiff1d(np.arange(self.count), list(silent))
        if not len(self.spoken):
            raise InputError(
                f"data.query: no query has a {method.label} score "
                f"({', '.join(sorted(set(silent.values())))}); check the texts of the queries"
            )
        self.lost = [_lost_row("query", query_rows[i], "", silent[i]) for i in sorted(silent)]
        self.write_queries(query_rows[self.spoken])

    def __call__(self, shard: int) -> ShardFacts:
        """Write the scores of one pool shard."""
        start, rows = time.monotonic(), self.rows[shard]
        all_ME = np.asarray(
            self.scorer.scores(self.starts[shard], self.starts[shard + 1]), np.float32
        )
        if all_ME.shape != (self.count, len(rows)):
            raise InputError(
                f"{self.name}: scores have shape {all_ME.shape} for {self.count} queries and "
                f"{len(rows)} pool rows; give a row for every query, unusable ones included"
            )
        scores_ME = all_ME[self.spoken]
        known = ~np.isnan(scores_ME).any(axis=0)
        lost = [_lost_row("pool", row, "", "no_score") for row in rows[~known].tolist()]
        scored = Scored(np.ascontiguousarray(scores_ME[:, known]), None)
        count = self.write(shard, rows[known], scored, {}, self.lost + lost)
        return {"rows": count, "seconds": time.monotonic() - start}


def _usable(side: Side) -> Iterator[TableRow]:
    """Yield the usable rows of a side, in order."""
    for shard in range(side.shards):
        usable = set(side.token_facts(shard)["row"].to_pylist())
        for row in side.row_table(shard).to_pylist():
            if row["row"] in usable:
                yield row


def _query_side(query: FeatureSet) -> QuerySide:
    parts = [query.read("query", shard)[0] for shard in range(query.shards["query"])]
    values_MCK = np.concatenate([part for part in parts if len(part)] or parts[:1])
    if not len(values_MCK):
        raise InputError("data.query: no query has a feature; see the quarantine of the features")
    return QuerySide(values_MCK, query.weights_C, query.has_halves)


def _query_rows(query: FeatureSet) -> np.ndarray:
    return query.runs["query"].rows()


def _scored(queries: QuerySide, count: int, values_ECK: np.ndarray) -> Scored:
    if len(values_ECK):
        return queries.score(values_ECK)
    nothing = np.zeros((count, 0), dtype=np.float32)
    return Scored(nothing, nothing if queries.halves == 2 else None)


def _wanted_rows(reader: RowReader, shard: int, wanted: np.ndarray | None) -> list[TableRow]:
    if wanted is None:
        return reader.rows("pool", shard)
    numbers = reader.sides["pool"].token_facts(shard)["row"].to_numpy()
    return reader.rows("pool", shard, np.flatnonzero(np.isin(numbers, wanted)))


def _lost(rows: list[TableRow], unusable: dict[int, str], role: str) -> list[QuarantinedRow]:
    return [
        _lost_row(role, rows[i]["row"], rows[i]["id"], reason)
        for i, reason in sorted(unusable.items())
    ]


def _lost_row(role: str, row: int, name: str, reason: str) -> QuarantinedRow:
    return QuarantinedRow(side=role, file="", line=str(row), id=name, reason=reason, detail="")
