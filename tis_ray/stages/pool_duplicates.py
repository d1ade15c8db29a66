"""Which pool rows repeat an earlier row of the pool: a part of the screen stage, if it is asked for.

Workers find the rows that are equal, by partitions of their hashes, and those that share runs of words, by
parts of all runs; which are dropped follows from what they found, from the first row to the last.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tis_ray.data import RejectReason, Row
from tis_ray.data.duplicates import Runs, Shared, row_runs
from tis_ray.data.overlap import row_words
from tis_ray.distributed.shards import ShardFacts, map_shards, pending
from tis_ray.settings import OverlapConfig
from tis_ray.stages.context import Context
from tis_ray.storage import Place, open_parquet
from tis_ray.store import Artifact, read_parquet, read_tables, write_parquet
from tis_ray.store.atomic import parquet_groups
from tis_ray.store.sides import layout_of, row_dicts

HASHES_TOGETHER = 4_000_000
"""Rows whose hashes are compared in one go: some 300 MB."""
RUNS_TOGETHER = 100_000
"""Rows, about, whose runs of words are put together in one go: some 20 million runs, 400 MB."""

EQUAL = pa.schema([("row", pa.int64()), ("first", pa.int64())])
"""Of each row whose content an earlier one has, the first that has it."""
RUNS = pa.schema([("hash", pa.uint64()), ("row", pa.int64()), ("place", pa.int32())])
SHARED = pa.schema([("row", pa.int64()), ("earlier", pa.int64()), ("place", pa.int32())])


class FindEqual:
    """Finds the rows of a pool whose content an earlier one has, by partitions of the hashes of contents."""

    def __init__(self, pool: Place, shards: int, out: Place, partitions: int) -> None:
        self.pool, self.shards, self.out, self.partitions = pool, shards, out, partitions

    def __call__(self, partition: int) -> ShardFacts:
        """Look at one partition; write its equal rows."""
        start = time.monotonic()
        mine = [self._part(shard, partition) for shard in range(self.shards)]
        equal = equal_rows(pa.concat_tables(mine))
        write_parquet(self.out / f"equal-{partition:05d}.parquet", equal)
        return {"rows": equal.num_rows, "seconds": time.monotonic() - start}

    def _part(self, shard: int, partition: int) -> pa.Table:
        table = read_parquet(_shard(self.pool, shard), ["row", "content"])
        if self.partitions == 1:
            return table
        numbers = [
            int(content[:8], 16) % self.partitions for content in table["content"].to_pylist()
        ]
        return table.filter(pa.array(np.array(numbers) == partition))


class FindRuns:
    """Leaves the runs of words of one shard of the pool, a row group for each part of them."""

    def __init__(self, pool: Place, out: Place, n: int, parts: int) -> None:
        self.pool, self.out, self.n, self.parts = pool, out, n, parts

    def __call__(self, shard: int) -> ShardFacts:
        """Read one shard of the pool; write its runs."""
        start = time.monotonic()
        rows = [(r["row"], cast(Row, r)) for r in row_dicts(_shard(self.pool, shard))]
        runs = row_runs(rows, self.n)
        with parquet_groups(self.out / f"runs-{shard:05d}.parquet", RUNS) as add:
            for part in range(self.parts):
                own = runs.part(part, self.parts)
                columns = [own.hashes_R, own.rows_R, own.places_R]
                add(pa.table([pa.array(column) for column in columns], schema=RUNS))
        return {"rows": len(rows), "seconds": time.monotonic() - start}


class FindShared:
    """Finds which rows share runs of words, by parts of all runs; `left_out` are rows that are not looked at."""

    def __init__(self, out: Place, shards: int, left_out: np.ndarray, rows: int) -> None:
        self.out, self.shards, self.left_out, self.rows = out, shards, left_out, rows

    def __call__(self, part: int) -> ShardFacts:
        """Put one part of the runs together; write the pairs of rows that share some."""
        start = time.monotonic()
        runs = Runs.joined([self._runs(shard, part) for shard in range(self.shards)])
        shared = Shared.of(runs, self.rows)
        columns = [shared.rows_P, shared.earlier_P, shared.places_P]
        table = pa.table([pa.array(column) for column in columns], schema=SHARED)
        write_parquet(self.out / f"shared-{part:05d}.parquet", table)
        return {"rows": len(runs.rows_R), "seconds": time.monotonic() - start}

    def _runs(self, shard: int, part: int) -> Runs:
        with open_parquet(self.out / f"runs-{shard:05d}.parquet") as file:
            table = file.read_row_group(part)
        runs = Runs(*(table[name].to_numpy() for name in RUNS.names))
        kept = ~np.isin(runs.rows_R, self.left_out)
        return Runs(runs.hashes_R[kept], runs.rows_R[kept], runs.places_R[kept])


def pool_duplicates(
    context: Context, artifact: Artifact, pool: Artifact, settings: OverlapConfig
) -> list[dict[str, str]]:
    """Return id, reason and detail of the pool rows that `overlap.pool` drops."""
    if settings.pool == "keep":
        return []
    equal = _equal(context, artifact, pool)
    why = {row: ("equal to pool row {}", first) for row, first in equal.items()}
    if settings.pool == "near":
        near = _near(context, artifact, pool, settings, np.array(sorted(equal), np.int64))
        why |= {
            row: (f"{share:.0%} of its words are in pool row {{}}", earlier)
            for row, (earlier, share) in near.items()
        }
    columns = ["row", "id", "file", "line"]
    concerned = _read_rows(pool, {*why, *(other for _, other in why.values())}, columns)
    at = {row["row"]: row for row in concerned}
    reason = str(RejectReason.REPEATS_POOL_ROW)
    return [
        {"id": str(at[row]["id"]), "reason": reason, "detail": text.format(_named(at[other]))}
        for row, (text, other) in sorted(why.items())
    ]


def equal_rows(contents: pa.Table) -> pa.Table:
    """Return the rows whose `content` an earlier `row` has, and the first that has it, of the schema EQUAL."""
    if not contents.num_rows:
        return EQUAL.empty_table()
    rows = contents["row"].to_numpy()
    codes = contents["content"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, firsts = np.unique(codes, return_index=True)
    later = firsts[codes] != np.arange(len(codes))
    return pa.table([pa.array(rows[later]), pa.array(rows[firsts[codes]][later])], schema=EQUAL)


def _equal(context: Context, artifact: Artifact, pool: Artifact) -> dict[int, int]:
    """Return, of each row whose content an earlier one has, the first that has it."""
    partitions = max(1, -(-pool.manifest().rows // HASHES_TOGETHER))
    arguments: dict[str, object] = {"pool": pool.path, "shards": _shards(pool)}
    arguments |= {"out": artifact.path, "partitions": partitions}
    todo = pending(artifact.path, "equal-{:05d}.parquet", partitions)
    map_shards(FindEqual, arguments, todo, context, "screen: equal rows", light=True)
    found = read_tables(artifact.path, "equal-*.parquet")
    return dict(zip(found["row"].to_pylist(), found["first"].to_pylist(), strict=True))


def _near(
    context: Context, artifact: Artifact, pool: Artifact, settings: OverlapConfig, equal: np.ndarray
) -> dict[int, tuple[int, float]]:
    """Return the rows that are near an earlier one: that one, and the share of their words."""
    rows, shards = pool.manifest().rows, _shards(pool)
    parts = max(1, -(-rows // RUNS_TOGETHER))
    out = artifact.path
    reading: dict[str, object] = {
        "pool": pool.path,
        "out": out,
        "n": settings.ngram,
        "parts": parts,
    }
    todo = pending(out, "runs-{:05d}.parquet", shards)
    map_shards(FindRuns, reading, todo, context, "screen: duplicates", light=True)
    joining = {"out": out, "shards": shards, "left_out": equal, "rows": rows - len(equal)}
    todo = pending(out, "shared-{:05d}.parquet", parts)
    map_shards(FindShared, joining, todo, context, "screen: shared words", light=True)
    found = read_tables(out, "shared-*.parquet")
    shared = Shared(*(found[name].to_numpy() for name in SHARED.names))
    return shared.repeats(
        lambda wanted: _words_of(pool, wanted), n=settings.ngram, threshold=settings.threshold
    )


def _words_of(pool: Artifact, wanted: Sequence[int]) -> dict[int, list[str]]:
    return {
        row["row"]: row_words(cast(Row, row))
        for shard, own in _by_shard(pool, wanted)
        for row in row_dicts(_shard(pool.path, shard), set(own.tolist()))
    }


def _read_rows(
    pool: Artifact, wanted: Iterable[int], columns: Sequence[str]
) -> Iterator[Mapping[str, object]]:
    """Yield columns of some rows; the shards that hold them are read alone."""
    for shard, own in _by_shard(pool, wanted):
        table = read_parquet(_shard(pool.path, shard), columns)
        yield from table.filter(pc.is_in(table["row"], pa.array(own))).to_pylist()


def _by_shard(pool: Artifact, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the shards that hold some of these rows, and the numbers of those in each, ascending."""
    rows = np.array(sorted(wanted), np.int64)
    for shard, places in layout_of(pool.inputs).places_by_shard(rows).items():
        yield shard, rows[places]


def _named(row: Mapping[str, object]) -> str:
    return f"{row['id']} ({row['file']} line {row['line']})"


def _shards(pool: Artifact) -> int:
    return int(pool.manifest().details["shards"])


def _shard(pool: Place, shard: int) -> Place:
    return pool / f"rows-{shard:05d}.parquet"
