"""Pool, query set and test set on disk: the rows as they were read, and the same rows as tokens.

`rows-*` holds what was read, by shards; `tokens-*` the same shards encoded, without the rows that
have no usable label. Both list what they lost in `quarantine.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.storage import Place
from tis_ray.store.artifact import Artifact
from tis_ray.store.columns import Column, schema_of
from tis_ray.store.files import TableRow, read_parquet
from tis_ray.store.shard_layout import ShardLayout, places_by
from tis_ray.store.usable_rows import COLUMNS, UsableRows

MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("reasoning_content", pa.string()),
        ("tool_calls", pa.string()),
        ("tool_call_id", pa.string()),
        ("name", pa.string()),
        ("trained", pa.list_(pa.struct([("begin", pa.int64()), ("end", pa.int64())]))),
    ]
)
ROWS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("messages", pa.list_(MESSAGE)),
        ("tools", pa.string()),
        ("prompt", pa.string()),
        ("label", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("given_id", pa.string()),
        ("content", pa.string()),
    ]
)
"""Rows as they were read, with `tools` and calls of them as JSON text; null is what a row lacks."""
TOKENS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("response_tokens", pa.int32()),
        ("content", pa.string()),
        ("tokens", pa.int32()),
    ]
)
"""Usable rows as they are trained on: `tokens` counts `input_ids`, `response_tokens` those that are learnt."""
QUARANTINED = {
    "side": Column(pa.string(), "`pool`, `query` or `test`"),
    "file": Column(pa.string(), "the file that the row stands in, its path within the source"),
    "line": Column(pa.string(), "its line, element or row there, from 1"),
    "id": Column(pa.string(), "its id, where it was read so far"),
    "reason": Column(pa.string(), "why it is not used, as one word"),
    "detail": Column(
        pa.string(), "the same in words: the field, what was found, what was expected"
    ),
}
"""A row of `quarantine.parquet`."""
QUARANTINE = schema_of(QUARANTINED)


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

    def token_table(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the same shard's tokens, or columns of them; rows without a usable label are missing."""
        return read_parquet(self.tokens / f"tokens-{shard:05d}.parquet", columns)

    def token_facts(self, shard: int) -> pa.Table:
        """Read a shard's tokens without the tokens: row, id, source, content."""
        return self.token_table(shard, ["row", "id", "source", "content"])

    def places(self, shard: int) -> pa.Table:
        """Read where a shard's rows came from: row, file, line."""
        path = self.rows / f"rows-{shard:05d}.parquet"
        return read_parquet(path, ["row", "file", "line"])

    @cached_property
    def starts(self) -> np.ndarray:
        """Number of usable rows before each shard and, last, of all."""
        return np.cumsum([0, *self.tokens.manifest().details["kept"]])

    @cached_property
    def usable_rows(self) -> UsableRows:
        """Source and lengths of every usable row; read once."""
        tables = (self.token_table(shard, COLUMNS) for shard in range(self.shards))
        return UsableRows.of(tables, self.usable)

    def __getstate__(self) -> dict[str, object]:
        """Leave what was read here behind: a worker reads what it needs itself."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def shards_of(self, rows: np.ndarray) -> dict[int, np.ndarray]:
        """Return the shards that hold some of these rows, by their numbers, and which places in `rows` those have."""
        return layout_of(self.rows.inputs).places_by_shard(rows)

    def shards_at(self, positions: np.ndarray) -> dict[int, np.ndarray]:
        """Return the same for positions among the usable rows."""
        return places_by(np.searchsorted(self.starts, positions, side="right") - 1)

    def facts_of(self, rows: np.ndarray, *columns: str) -> pa.Table:
        """Read columns of `tokens-*` for usable rows, in their order; the shards concerned alone are read."""
        return self._gathered(rows, lambda shard: self.token_table(shard, columns), columns)

    def origins_of(self, rows: np.ndarray) -> pa.Table:
        """Read row, file and line of rows, in their order; the shards concerned alone are read."""
        return self._gathered(rows, self.places, ("row", "file", "line"))

    def _gathered(
        self, rows: np.ndarray, read: Callable[[int], pa.Table], columns: Sequence[str]
    ) -> pa.Table:
        parts, order = [], []
        for shard, mine in self.shards_of(rows).items():
            table = read(shard)
            numbers = table["row"].to_numpy()
            places = np.searchsorted(numbers, rows[mine])
            if not np.array_equal(numbers[np.minimum(places, len(numbers) - 1)], rows[mine]):
                raise KeyError(
                    f"{self.name}: shard {shard} lacks some of the rows that are asked for"
                )
            parts.append(table.take(pa.array(places)))
            order.append(mine)
        if not parts:
            return self.token_table(0, columns).slice(0, 0)
        return pa.concat_tables(parts).take(pa.array(np.argsort(np.concatenate(order))))

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


def layout_of(inputs: Mapping[str, object]) -> ShardLayout:
    """Return how a `rows-*` artifact of these inputs is cut."""
    shard_rows = inputs["shard_rows"]
    return ShardLayout(None if shard_rows is None else int(str(shard_rows)))


def rows_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema = ROWS) -> pa.Table:
    """Return rows (`tis_ray.data.Row`, with `row`) as a table of the schema ROWS, or of other columns."""
    return pa.Table.from_pylist([_stored(row) for row in rows], schema=schema)


def row_dicts(path: Place, wanted: Collection[int] | None = None) -> list[TableRow]:
    """Read a rows shard, as `rows_table` took it; fields that a row lacks are left out.

    wanted: of these rows alone, by their numbers.
    """
    if wanted is None:
        return [_as_read(row) for row in read_parquet(path).to_pylist()]
    numbers = read_parquet(path, ["row"])["row"].to_numpy()
    places = np.flatnonzero(np.isin(numbers, [*wanted]))
    if not len(places):
        return []
    return [_as_read(row) for row in read_parquet(path).take(pa.array(places)).to_pylist()]


def _stored(row: Mapping[str, Any]) -> TableRow:
    stored = {**row, "messages": [_stored_turn(turn) for turn in row["messages"]]}
    if "tools" in row:
        stored["tools"] = _json(row["tools"])
    return stored


def _stored_turn(turn: Mapping[str, Any]) -> TableRow:
    stored = dict(turn)
    if "tool_calls" in turn:
        stored["tool_calls"] = _json(turn["tool_calls"])
    if "trained" in turn:
        stored["trained"] = [{"begin": begin, "end": end} for begin, end in turn["trained"]]
    return stored


def _as_read(stored: TableRow) -> TableRow:
    row = {name: value for name, value in stored.items() if value is not None}
    row["messages"] = [_turn_as_read(turn) for turn in row["messages"]]
    if "tools" in row:
        row["tools"] = json.loads(row["tools"])
    return row


def _turn_as_read(stored: TableRow) -> TableRow:
    turn = {name: value for name, value in stored.items() if value is not None}
    if "tool_calls" in turn:
        turn["tool_calls"] = json.loads(turn["tool_calls"])
    if "trained" in turn:
        turn["trained"] = [(span["begin"], span["end"]) for span in turn["trained"]]
    return turn


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
