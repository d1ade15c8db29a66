"""The first step of a large pool's reading: each portion is read, checked and hashed by itself.

What a row has by itself is left in `read-*` (its number and id are not known yet), the keys by which ids
are settled in `keys-*`, what was refused in `lost-*`. A row's `place` is its number among the usable rows
of its portion, its `record` that among all records.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from tis_ray.data import Record, Rejected, Row
from tis_ray.data.checking import hashed_rows
from tis_ray.data.portions import Portion
from tis_ray.data.reading import Unseen
from tis_ray.data.sources import SourcePart
from tis_ray.distributed.shards import ShardFacts
from tis_ray.stages.row_facts import printable
from tis_ray.storage import Place
from tis_ray.store import write_json, write_parquet
from tis_ray.store.atomic import parquet_groups
from tis_ray.store.sides import ROWS, rows_table

READ = pa.schema(
    [
        *(ROWS.field(name) for name in ROWS.names if name not in ("row", "id")),
        ("schema", pa.string()),
        ("left_out", pa.list_(pa.string())),
        ("record", pa.int32()),
    ]
)
"""Rows of a portion; lines are counted from its beginning where it goes on in a file."""
KEYS = pa.schema(
    [("place", pa.int32()), ("file", pa.string()), ("given", pa.string()), ("key", pa.string())]
)
"""Of each row the id that it was given, and what its id begins with: that one, or its content's hash."""
LOST = pa.schema(
    [
        ("record", pa.int32()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""Refused records of a portion, lines as in READ."""
TOGETHER = 2048
"""Rows that are held, and stand in one row group."""


class ReadPortion:
    """Reads portions of a pool."""

    def __init__(
        self, parts: Sequence[SourcePart], portions: Sequence[Portion], out: Place, partitions: int
    ) -> None:
        self.parts, self.portions, self.out, self.partitions = parts, portions, out, partitions

    def __call__(self, number: int) -> ShardFacts:
        """Read one portion; write its keys, what was refused, its rows and, last, its facts."""
        start = time.monotonic()
        portion = self.portions[number]
        part = self.parts[portion.part]
        unseen, lines = Unseen(part.reading), _Lines(portion.records(part, "pool"))
        keys: list[dict[str, Any]] = []
        lost: list[dict[str, Any]] = []
        records = unseen.watched(lines.records())
        with parquet_groups(self.out / f"read-{number:05d}.parquet", READ) as add:
            rows = _usable(hashed_rows(records, "pool", part.reading), keys, lost)
            while batch := [*islice(rows, TOGETHER)]:
                add(rows_table(batch, READ))
        self._write_keys(number, keys)
        write_parquet(self.out / f"lost-{number:05d}.parquet", pa.Table.from_pylist(lost, LOST))
        facts = {
            "rows": len(keys),
            "lines": lines.count,
            "unseen": [*unseen.fields],
            "objects": unseen.objects,
        }
        write_json(self.out / f"facts-{number:05d}.json", facts)
        return {"rows": len(keys), "seconds": time.monotonic() - start}

    def _write_keys(self, number: int, keys: list[dict[str, Any]]) -> None:
        """Write the keys, a row group for each partition of them."""
        parted: list[list[dict[str, Any]]] = [[] for _ in range(self.partitions)]
        for key in keys:
            parted[partition_of(key["key"], self.partitions)].append(key)
        with parquet_groups(self.out / f"keys-{number:05d}.parquet", KEYS) as add:
            for own in parted:
                add(pa.Table.from_pylist(own, KEYS))


def partition_of(key: str, partitions: int) -> int:
    """Return which partition settles a key."""
    return zlib.crc32(key.encode()) % partitions


class _Lines:
    """Records, and how many lines they were on when all have been read."""

    def __init__(self, records: Generator[Record, None, int]) -> None:
        self._records = records
        self.count = 0

    def records(self) -> Iterator[Record]:
        self.count = yield from self._records


def _usable(
    rows: Iterator[Row | Rejected], keys: list[dict[str, Any]], lost: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    for record, row in enumerate(rows):
        if isinstance(row, Rejected):
            lost.append({**vars(row), "reason": str(row.reason), "record": record})
            continue
        given = row.get("given_id")
        key = {"place": len(keys), "file": row["file"], "given": given}
        keys.append({**key, "key": given or row["content"]})
        left_out = [printable(name) for name in row.pop("left_out", ())]
        yield {**row, "left_out": left_out, "record": record}
