"""Orderings: one for each representation and selector, at the largest budget; budgets are prefixes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray.config import Config
from tis_ray.errors import InputError
from tis_ray.stages.cluster import Cluster
from tis_ray.stages.log import RunLog, peak_mb
from tis_ray.stages.select import ShardRef, select_distributed
from tis_ray.stages.tokens import Side
from tis_ray.store import Artifact, write_parquet


@dataclass(frozen=True)
class StudyOrdering:
    """An ordering of the pool: `ordering.parquet` with index (row of the pool), rank, score, query
    (row of the query set), id, source and query_id."""

    representation: str
    selector: str
    artifact: Artifact

    @property
    def file(self) -> Path:
        """The ordering's file."""
        return self.artifact / "ordering.parquet"

    def table(self) -> pa.Table:
        """Read the ordering, best first."""
        return pq.read_table(self.file)


def order(
    representation: str,
    selector: str,
    scores: Artifact,
    config: Config,
    pool: Side,
    query: Side,
    cluster: Cluster,
    log: RunLog,
) -> StudyOrdering:
    """Rank the pool by one selector, over score shards held by actors."""
    budget = max(config.budget)
    artifact = Artifact(
        config.artifact_root,
        f"ordering-{representation}-{selector}",
        {"scores": scores.fingerprint, "selector": selector, "budget": budget},
    )
    reused = artifact.complete
    if not reused:
        start = time.monotonic()
        columns_N = np.load(scores / "columns.npy")
        if budget > len(columns_N):
            raise InputError(
                f"budget: {budget} exceeds the {len(columns_N)} pool rows that have a "
                f"{representation} score; lower the budget or enlarge the pool"
            )
        found = select_distributed(score_shards(scores), selector, budget, cluster.actors)
        queries_M = np.load(scores / "queries.npy")
        table = found.to_table()
        index = columns_N[found.indices]
        by_row, query_ids = _facts(pool, index), _facts(query, queries_M)
        table = table.set_column(0, "index", pa.array(index, pa.int64()))
        table = table.set_column(
            table.schema.get_field_index("query"),
            "query",
            pa.array(queries_M[found.queries], pa.int32()),
        )
        table = table.append_column("id", pa.array([by_row[i][0] for i in index.tolist()]))
        table = table.append_column("source", pa.array([by_row[i][1] for i in index.tolist()]))
        names = [query_ids[q][0] for q in table["query"].to_pylist()]
        table = table.append_column("query_id", pa.array(names))
        write_parquet(artifact / "ordering.parquet", table)
        artifact.commit(rows=budget, seconds=time.monotonic() - start, peak_mb=peak_mb())
    log.made(f"{representation} {selector}", artifact, reused)
    return StudyOrdering(representation, selector, artifact)


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
    for table in side.token_tables():
        part = table.select(["row", "id", "source"]).to_pydict()
        for row, name, source in zip(part["row"], part["id"], part["source"], strict=True):
            if row in wanted:
                found[row] = (name, source)
    return found
