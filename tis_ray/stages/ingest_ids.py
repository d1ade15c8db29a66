"""The second step of a large pool's reading: the rows whose ids are not simply their keys.

Keys are parted by a hash, and each partition is settled by itself, by the rule that one reader follows from
the first row to the last (`tis_ray.data.ids.Ids`). It leaves in `ids-*` what differs from the keys: other
names, and refused rows. That is right as long as no name that is made up here (`b:0`, `x-2`) is a key or is
made up twice; `NamesThatMeet` looks for such ones, and where there are any, one reader settles all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tis_ray.data import UnusableError
from tis_ray.data.ids import Ids
from tis_ray.distributed.shards import ShardFacts
from tis_ray.stages.ingest_read import partition_of
from tis_ray.storage import Place, open_parquet
from tis_ray.store import TableRow, write_json, write_parquet

OTHER = pa.schema([("portion", pa.int32()), ("place", pa.int32()), ("name", pa.string())])
"""Rows whose ids are not their keys, in order; a refused row has no name."""
GROUP = 1 << 16


class SettleIds:
    """Settles partitions of the keys of a pool.

    names: a short name of each file, by the file.
    """

    def __init__(self, out: Place, portions: int, names: Mapping[str, str]) -> None:
        self.out, self.portions, self.names = out, portions, names

    def __call__(self, partition: int) -> ShardFacts:
        """Settle one partition; write its other names and, last, how many rows of each portion it refuses."""
        start = time.monotonic()
        keys = keys_of(self.out, self.portions, partition)
        other = settled(_repeated(keys), self.names)
        write_other(self.out, partition, other)
        return {"rows": keys.num_rows, "seconds": time.monotonic() - start}


class NamesThatMeet:
    """Looks in partitions for names that were made up and are the key of another row, or were made up twice."""

    def __init__(self, out: Place, portions: int, partitions: int) -> None:
        self.out, self.portions, self.partitions = out, portions, partitions

    def __call__(self, partition: int) -> ShardFacts:
        """Look at the names of one partition; write the first that meets another, or null."""
        start = time.monotonic()
        names = [
            name
            for number in range(self.partitions)
            for name in _column(self.out / f"ids-{number:05d}.parquet", "name")
            if name is not None and partition_of(name, self.partitions) == partition
        ]
        keys = keys_of(self.out, self.portions, partition)["key"] if names else []
        met = len({*names}) < len(names) or (
            bool(names) and pc.any(pc.is_in(keys, pa.array(names, pa.string()))).as_py()
        )
        write_json(self.out / f"met-{partition:05d}.json", met)
        return {"rows": len(names), "seconds": time.monotonic() - start}


def settled(keys: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """Return the rows whose ids are not their keys, as a table of the schema OTHER.

    keys: in the order of the rows, with their portions. names: as of `SettleIds`.
    """
    ids = Ids(names)
    other = []
    for row in _rows(keys):
        try:
            name: str | None = ids.settle(row["file"], row["given"], row["key"])
        except UnusableError:
            name = None
        if name != row["key"]:
            other.append({"portion": row["portion"], "place": row["place"], "name": name})
    return pa.Table.from_pylist(other, OTHER)


def keys_of(out: Place, portions: int, partition: int | None) -> pa.Table:
    """Return the keys of a partition, or all, in the order of the rows, with their portions."""
    tables = []
    for number in range(portions):
        with open_parquet(out / f"keys-{number:05d}.parquet") as file:
            table = file.read() if partition is None else file.read_row_group(partition)
        if partition is None:
            table = table.sort_by("place")
        portion = pa.array(np.full(table.num_rows, number, np.int32))
        tables.append(table.append_column(pa.field("portion", pa.int32()), portion))
    return pa.concat_tables(tables)


def write_other(out: Place, partition: int, other: pa.Table) -> None:
    """Write what was settled in a partition."""
    write_parquet(out / f"ids-{partition:05d}.parquet", other, GROUP)
    refused = other["portion"].filter(other["name"].is_null())
    counts = pc.value_counts(refused).to_pylist()
    lost = [[each["values"], each["counts"]] for each in counts]
    named = other.num_rows - len(refused)
    write_json(out / f"settled-{partition:05d}.json", {"refused": lost, "named": named})


def names_of(out: Place, partitions: int, portion: int) -> pa.Table:
    """Return the other names of a portion's rows."""
    found = [
        group
        for partition in range(partitions)
        for group in _groups_with(out / f"ids-{partition:05d}.parquet", portion)
    ]
    table = pa.concat_tables([OTHER.empty_table(), *found])
    return table.filter(pc.equal(table["portion"], portion)).sort_by("place")


def _groups_with(path: Place, portion: int) -> Iterator[pa.Table]:
    """Yield the row groups of a file that may have rows of a portion: portions come in order."""
    with open_parquet(path) as file:
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(0).statistics
            if bounds is None or bounds.min <= portion <= bounds.max:
                yield file.read_row_group(group)


def _repeated(keys: pa.Table) -> pa.Table:
    """Return the rows whose key another row has, too; the ids of the others are their keys."""
    codes = keys["key"].combine_chunks().dictionary_encode().indices.to_numpy()
    return keys.filter(pa.array(np.bincount(codes)[codes] > 1)) if len(codes) else keys


def _rows(keys: pa.Table) -> Iterator[TableRow]:
    for batch in keys.to_batches(max_chunksize=GROUP):
        yield from batch.to_pylist()


def _column(path: Place, name: str) -> Iterable[str | None]:
    with open_parquet(path) as file:
        values: list[str | None] = file.read([name])[name].to_pylist()
    return values
