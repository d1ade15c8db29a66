"""Which pool rows repeat an earlier row of the pool: a part of the screen stage, if it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import pyarrow as pa

from tis_ray.data import RejectReason, Row
from tis_ray.data.duplicates import Runs, near_duplicates, row_runs
from tis_ray.data.overlap import row_words
from tis_ray.distributed.shards import ShardFacts, map_shards, pending
from tis_ray.settings import OverlapConfig
from tis_ray.stages.context import Context
from tis_ray.storage import Place, listed
from tis_ray.store import Artifact, read_parquet, read_tables, write_parquet
from tis_ray.store.sides import row_dicts

RUNS_IN_MEMORY = 20_000_000
"""Runs of words that are put together at a time: some 320 MB."""

RUNS = pa.schema([("hash", pa.uint64()), ("row", pa.int64()), ("place", pa.int32())])


class FindRuns:
    """Leaves the runs of words of one shard of the pool."""

    def __init__(self, pool: Place, out: Place, n: int) -> None:
        self.pool, self.out, self.n = pool, out, n

    def __call__(self, shard: int) -> ShardFacts:
        """Read one shard of the pool; write its runs."""
        start = time.monotonic()
        rows = [(r["row"], cast(Row, r)) for r in row_dicts(_shard(self.pool, shard))]
        runs = row_runs(rows, self.n)
        columns = [runs.hashes_R, runs.rows_R, runs.places_R]
        table = pa.table([pa.array(column) for column in columns], schema=RUNS)
        write_parquet(self.out / f"runs-{shard:05d}.parquet", table)
        return {"rows": len(rows), "seconds": time.monotonic() - start}


def pool_duplicates(
    context: Context, artifact: Artifact, pool: Artifact, settings: OverlapConfig
) -> list[dict[str, str]]:
    """Return id, reason and detail of the pool rows that `overlap.pool` drops."""
    if settings.pool == "keep":
        return []
    facts = read_tables(pool.path, "rows-*.parquet", ["row", "id", "content", "file", "line"])
    rows, ids = facts["row"].to_pylist(), facts["id"].to_pylist()
    places = [
        f"{name} ({file} line {line})"
        for name, file, line in zip(
            ids, facts["file"].to_pylist(), facts["line"].to_pylist(), strict=True
        )
    ]
    equal = equal_rows(facts["content"].to_pylist())
    dropped = {row: f"equal to pool row {places[first]}" for row, first in equal.items()}
    if settings.pool == "near":
        shards = int(pool.manifest().details["shards"])
        todo = pending(artifact.path, "runs-{:05d}.parquet", shards)
        arguments: dict[str, object] = {"pool": pool.path, "out": artifact.path}
        arguments["n"] = settings.ngram
        map_shards(FindRuns, arguments, todo, context, "screen: duplicates", light=True)
        near = near_duplicates(
            _parts(artifact.path, np.array(sorted(equal), np.int64)),
            len(rows) - len(equal),
            lambda wanted: _words_of(pool.path, wanted),
            n=settings.ngram,
            threshold=settings.threshold,
        )
        dropped |= {
            row: f"{share:.0%} of its words are in pool row {places[earlier]}"
            for row, (earlier, share) in near.items()
        }
        for path in artifact.path.glob("runs-*.parquet"):
            path.unlink()
    reason = str(RejectReason.REPEATS_POOL_ROW)
    return [
        {"id": ids[row], "reason": reason, "detail": detail}
        for row, detail in sorted(dropped.items())
    ]


def equal_rows(contents: Sequence[str]) -> dict[int, int]:
    """Return, of each row whose content an earlier one has, that row."""
    first: dict[str, int] = {}
    equal = {}
    for row, content in enumerate(contents):
        if first.setdefault(content, row) != row:
            equal[row] = first[content]
    return equal


def _parts(folder: Place, left_out: np.ndarray) -> Iterator[Runs]:
    """Yield all runs but those of some rows, in parts that fit into memory."""
    paths = listed(folder, "runs-*.parquet")
    total = sum(read_parquet(path, ["row"]).num_rows for path in paths)
    parts = max(1, -(-total // RUNS_IN_MEMORY))
    for part in range(parts):
        runs = []
        for path in paths:
            table = read_parquet(path)
            kept = Runs(*(table[name].to_numpy() for name in RUNS.names)).part(part, parts)
            mine = ~np.isin(kept.rows_R, left_out)
            runs.append(Runs(kept.hashes_R[mine], kept.rows_R[mine], kept.places_R[mine]))
        yield Runs.joined(runs)


def _words_of(pool: Place, wanted: Sequence[int]) -> dict[int, list[str]]:
    rows = set(wanted)
    return {
        row["row"]: row_words(cast(Row, row))
        for path in listed(pool, "rows-*.parquet")
        for row in row_dicts(path)
        if row["row"] in rows
    }


def _shard(pool: Place, shard: int) -> Place:
    return pool / f"rows-{shard:05d}.parquet"
