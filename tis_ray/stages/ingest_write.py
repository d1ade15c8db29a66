"""The last steps of a large pool's reading: rows get their ids and numbers, a sample is drawn, shards are written.

Which rows a sample keeps follows from their ids alone (`tis_ray.data.checking.sample_hash`): each portion
gives its lowest hashes, and a `Drawn` says what the lowest of all come to.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tis_ray.data import RejectReason
from tis_ray.data.checking import sample_hash
from tis_ray.data.ids import GIVEN_TWICE
from tis_ray.distributed.shards import ShardFacts
from tis_ray.stages.ingest_ids import names_of
from tis_ray.stages.ingest_read import LOST
from tis_ray.storage import Place, open_parquet
from tis_ray.store import read_parquet, write_json, write_npy, write_parquet
from tis_ray.store.shard_layout import ShardLayout
from tis_ray.store.sides import QUARANTINE, ROWS


@dataclass(frozen=True)
class Drawn:
    """A uniform sample of the rows of some portions: those whose hash is below a bound, and some that have it.

    last: of each portion, how many of its rows with the bound itself are in the sample, the first ones. bound:
    None while all are.
    """

    portions: frozenset[int]
    rows: int
    seed: int
    bound: int | None = None
    last: Mapping[int, int] | None = None

    def kept(self, portion: int, ids: pa.ChunkedArray, before: int) -> tuple[np.ndarray, int]:
        """Return which rows of a portion are kept, and `before` with how many of them have the bound itself."""
        if portion not in self.portions or self.bound is None or self.last is None:
            return np.ones(len(ids), bool), before
        hashes = self.hashes(ids)
        ties = hashes == np.uint64(self.bound)
        first = before + np.cumsum(ties) <= self.last[portion]
        return (hashes < np.uint64(self.bound)) | (ties & first), before + int(ties.sum())

    def hashes(self, ids: pa.ChunkedArray) -> np.ndarray:
        """Return the hash of each id."""
        return np.array([sample_hash(name, self.seed) for name in ids.to_pylist()], np.uint64)


@dataclass(frozen=True)
class SettledRows:
    """The rows of a pool's portions with their ids, as far as it is known which ones are kept.

    offsets: lines of each portion's file that other portions hold. samples: drawn so far, in their order.
    """

    out: Place
    partitions: int
    offsets: Sequence[int]
    samples: Sequence[Drawn] = ()

    def batches(self, portion: int) -> Iterator[pa.Table]:
        """Yield the rows of a portion that are kept, with `id` and the columns of READ."""
        names = names_of(self.out, self.partitions, portion)
        refused = names["place"].filter(names["name"].is_null())
        begin, ties = 0, [0] * len(self.samples)
        with open_parquet(self.out / f"read-{portion:05d}.parquet") as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                places = np.arange(begin, begin + table.num_rows, dtype=np.int32)
                begin += table.num_rows
                table = self._named(table, places, names, portion)
                table = table.filter(pc.invert(pc.is_in(pa.array(places), refused)))
                for place, sample in enumerate(self.samples):
                    kept, ties[place] = sample.kept(portion, table["id"], ties[place])
                    table = table.filter(pa.array(kept))
                if table.num_rows:
                    yield table

    def refused(self, portion: int) -> pa.Table:
        """Return the refused records of a portion, those of ids too, in their order, of the schema LOST."""
        names = names_of(self.out, self.partitions, portion)
        places = names["place"].filter(names["name"].is_null())
        lost = read_parquet(self.out / f"lost-{portion:05d}.parquet")
        if len(places):
            columns = ["record", "file", "line", "given_id"]
            rows = read_parquet(self.out / f"read-{portion:05d}.parquet", columns)
            rows = rows.take(places)
            reason = pa.array([str(RejectReason.DUPLICATE_ID)] * len(places))
            detail = pa.array([GIVEN_TWICE] * len(places))
            twice = pa.table([*rows.columns, reason, detail], schema=LOST)
            lost = pa.concat_tables([lost, twice]).sort_by("record")
        return self._moved(lost, portion)

    def _named(
        self, table: pa.Table, places: np.ndarray, names: pa.Table, portion: int
    ) -> pa.Table:
        own = pc.coalesce(table["given_id"], table["content"])
        at = pc.index_in(pa.array(places), names["place"])
        ids = pc.coalesce(names["name"].take(at), own)
        return self._moved(table.append_column("id", ids), portion)

    def _moved(self, table: pa.Table, portion: int) -> pa.Table:
        """Return rows with their lines counted from the beginning of the file."""
        if not self.offsets[portion]:
            return table
        lines = pc.add(table["line"], self.offsets[portion])
        return table.set_column(table.schema.get_field_index("line"), "line", lines)


class LowestHashes:
    """Leaves the lowest hashes of portions, from which a sample is drawn."""

    def __init__(self, rows: SettledRows, sample: Drawn, number: int) -> None:
        self.rows, self.sample, self.number = rows, sample, number

    def __call__(self, portion: int) -> ShardFacts:
        """Write the lowest hashes of one portion, in the order of its rows."""
        start = time.monotonic()
        found = [self.sample.hashes(table["id"]) for table in self.rows.batches(portion)]
        hashes = np.concatenate([np.empty(0, np.uint64), *found])
        if len(hashes) > self.sample.rows:
            hashes = hashes[
                hashes <= np.partition(hashes, self.sample.rows - 1)[self.sample.rows - 1]
            ]
        write_npy(self.rows.out / f"lowest-{self.number}-{portion:05d}.npy", hashes)
        return {"rows": len(hashes), "seconds": time.monotonic() - start}


def drawn(sample: Drawn, lowest: Callable[[int], np.ndarray]) -> tuple[Drawn, dict[int, int]]:
    """Return the sample, drawn, and how many rows it keeps of each of its portions.

    lowest: reads the lowest hashes of a portion; no more than the sample's own are held.
    """
    best = np.empty(0, np.uint64)
    for portion in sample.portions:
        best = np.concatenate([best, lowest(portion)])
        if len(best) > sample.rows:
            best = np.partition(best, sample.rows - 1)[: sample.rows]
    if len(best) < sample.rows:
        return sample, {portion: len(lowest(portion)) for portion in sample.portions}
    bound = best.max()
    left = sample.rows - int((best < bound).sum())
    last, counts = {}, {}
    for portion in sorted(sample.portions):
        hashes = lowest(portion)
        last[portion] = min(left, int((hashes == bound).sum()))
        left -= last[portion]
        counts[portion] = int((hashes < bound).sum()) + last[portion]
    return replace(sample, bound=int(bound), last=last), counts


class WriteShards:
    """Writes the shards that begin in a portion.

    starts: the number of the first row of each portion and, last, of all rows. layout: of the shards.
    """

    def __init__(
        self, rows: SettledRows, starts: Sequence[int], layout: ShardLayout, out: Place
    ) -> None:
        self.rows, self.starts, self.layout, self.out = rows, starts, layout, out

    def __call__(self, portion: int) -> ShardFacts:
        """Write the shards of one portion, what it refused and, last, its counts."""
        start = time.monotonic()
        schemas: Counter[tuple[str, str]] = Counter()
        left_out: Counter[str] = Counter()
        for shard, table in self._shards(portion, schemas, left_out):
            numbers = pa.array(np.arange(table.num_rows) + self.layout.begin(shard))
            table = table.append_column("row", numbers).select(ROWS.names).cast(ROWS)
            write_parquet(self.out / f"rows-{shard:05d}.parquet", table.combine_chunks())
        scratch = self.rows.out
        refused = _quarantine(self.rows.refused(portion))
        write_parquet(scratch / f"quarantine-{portion:05d}.parquet", refused)
        counts = {
            "schemas": [[*names, rows] for names, rows in schemas.items()],
            "left_out": [*left_out.items()],
        }
        write_json(scratch / f"written-{portion:05d}.json", counts)
        rows = self.starts[portion + 1] - self.starts[portion]
        return {"rows": rows, "seconds": time.monotonic() - start}

    def _shards(
        self, portion: int, schemas: Counter[tuple[str, str]], left_out: Counter[str]
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yield shards by their numbers; the last one goes on with the rows of portions that follow."""
        low, end, total = self.starts[portion], self.starts[portion + 1], self.starts[-1]
        shard = self.layout.count(low)  # the first that begins at `low` or after it
        held: list[pa.Table] = []
        have = low  # rows are held from `low` to here
        for number in range(portion, len(self.starts) - 1):
            for table in self.rows.batches(number):
                if number == portion:
                    schemas.update(
                        zip(*map(_texts, (table["source"], table["schema"])), strict=True)
                    )
                    left_out.update(_texts(pc.list_flatten(table["left_out"])))
                held.append(table)
                have += table.num_rows
                while (first := self.layout.begin(shard)) < end:
                    last = min(self.layout.begin(shard + 1), total)
                    if have < last:
                        break
                    yield shard, pa.concat_tables(held).slice(first - low, last - first)
                    held = [pa.concat_tables(held).slice(last - low)]
                    low, shard = last, shard + 1
                if self.layout.begin(shard) >= end:
                    held, low = [], have
                    if number > portion:
                        return


def _texts(column: pa.ChunkedArray) -> list[str]:
    texts: list[str] = column.to_pylist()
    return texts


def _quarantine(refused: pa.Table) -> pa.Table:
    """Return refused records as rows of the pool's quarantine."""
    columns = {name: refused[name] for name in ("file", "reason", "detail")}
    columns["side"] = pa.array(["pool"] * refused.num_rows, pa.string())
    columns["line"] = refused["line"].cast(pa.string())
    columns["id"] = pc.fill_null(refused["id"], "")
    return pa.table({name: columns[name] for name in QUARANTINE.names}, schema=QUARANTINE)
