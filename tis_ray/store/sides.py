"""Pool, query set and test set on disk: the rows as they were read, and the same rows as tokens.

`rows-*` holds what was read, by shards; `tokens-*` the same shards encoded, without the rows that
have no usable label. Both list what they lost in `quarantine.parquet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.store.artifact import Artifact
from tis_ray.store.files import TableRow, read_parquet

ROWS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("prompt", pa.string()),
        ("label", pa.string()),
        ("content", pa.string()),
    ]
)
TOKENS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("response_tokens", pa.int32()),
        ("content", pa.string()),
    ]
)
QUARANTINE = pa.schema(
    [(name, pa.string()) for name in ("side", "file", "line", "id", "reason", "detail")]
)


SideName = Literal["pool", "query", "test"]
SIDES: tuple[SideName, ...] = ("pool", "query", "test")


@dataclass(frozen=True)
class Side:
    """One of pool, query and test: its rows and tokens on disk."""

    name: str
    rows: Artifact
    tokens: Artifact
    shards: int

    def row_table(self, shard: int) -> pa.Table:
        """Read one shard of rows."""
        return read_parquet(self.rows / f"rows-{shard:05d}.parquet")

    def token_table(self, shard: int) -> pa.Table:
        """Read the same shard's tokens; rows without a usable label are missing."""
        return read_parquet(self.tokens / f"tokens-{shard:05d}.parquet")

    def token_facts(self, shard: int) -> pa.Table:
        """Read a shard's tokens without the tokens: row, id, source, content."""
        columns = ["row", "id", "source", "content"]
        return read_parquet(self.tokens / f"tokens-{shard:05d}.parquet", columns=columns)

    def row_tables(self) -> Iterator[pa.Table]:
        """Read the rows, shard by shard."""
        return (self.row_table(shard) for shard in range(self.shards))

    def token_tables(self) -> Iterator[pa.Table]:
        """Read the tokens, shard by shard."""
        return (self.token_table(shard) for shard in range(self.shards))

    def examples(self) -> list[TableRow]:
        """All encoded examples with their ids; for the small sides."""
        rows: list[TableRow] = pa.concat_tables(self.token_tables()).to_pylist()
        return rows

    @property
    def usable(self) -> int:
        """Number of rows with tokens."""
        return self.tokens.manifest().rows

    def quarantined(self) -> list[QuarantinedRow]:
        """Every row of this side that cannot be used, and why."""
        tables = [read_parquet(a / "quarantine.parquet") for a in (self.rows, self.tokens)]
        rows: list[QuarantinedRow] = pa.concat_tables(tables).to_pylist()
        return rows


def row_dicts(path: Path) -> list[TableRow]:
    """Read a rows shard; `prompt` and `label` are left out where a row has none."""
    rows = read_parquet(path).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]
