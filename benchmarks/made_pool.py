"""Pools of any size with short rows that say nothing, as the reading of files would have left them.

The rows are made by the workers, shard by shard, with the real schemas; only what later stages read is
filled. The content of row n is a hash of n.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tis_ray.distributed.shards import ShardFacts, map_shards, pending
from tis_ray.stages.context import Context
from tis_ray.storage import Place
from tis_ray.store import Artifact, write_parquet
from tis_ray.store.shard_layout import ShardLayout
from tis_ray.store.sides import QUARANTINE, ROWS, TOKENS, Side, SideName

TOKENS_A_ROW = 4
ROWS_FILLED = {"row", "file", "line"}
TOKENS_FILLED = {"row", "id", "source", "content", "tokens", "response_tokens"}
"""Columns that are filled: all that is read before anything is trained."""
SOURCES = 8


class MakeShard:
    """Writes one shard of rows, and the same as tokens."""

    def __init__(
        self, rows: Place, tokens: Place, count: int, layout: ShardLayout, salt: int
    ) -> None:
        self.rows, self.tokens, self.count = rows, tokens, count
        self.layout, self.salt = layout, salt

    def __call__(self, shard: int) -> ShardFacts:
        """Write the shard; its rows are numbered through all shards."""
        start = time.monotonic()
        last = min(self.layout.begin(shard + 1), self.count)
        numbers_E = np.arange(self.layout.begin(shard), last)
        known = {
            "row": pa.array(numbers_E),
            "id": _named(f"{self.salt}-", numbers_E),
            "source": _named("source-", numbers_E % SOURCES),
            "content": _contents(numbers_E, self.salt),
            "file": pa.repeat("made.jsonl", len(numbers_E)),
            "line": pa.array(numbers_E + 1),
            "tokens": pa.array(np.full(len(numbers_E), TOKENS_A_ROW, np.int32)),
            "response_tokens": pa.array(np.full(len(numbers_E), TOKENS_A_ROW, np.int32)),
        }
        self._write(self.rows / f"rows-{shard:05d}.parquet", known, ROWS, ROWS_FILLED)
        self._write(self.tokens / f"tokens-{shard:05d}.parquet", known, TOKENS, TOKENS_FILLED)
        return {"rows": len(numbers_E), "seconds": time.monotonic() - start}

    def _write(
        self, path: Place, known: dict[str, pa.Array], schema: pa.Schema, filled: set[str]
    ) -> None:
        count = len(known["row"])
        columns = [
            known[f.name].cast(f.type) if f.name in filled else pa.nulls(count, f.type)
            for f in schema
        ]
        write_parquet(path, pa.table(columns, schema=schema))


def made_side(context: Context, name: SideName, count: int) -> Side:
    """Return a side of so many rows, which are made unless they are there."""
    shard_rows = context.config.batch.shard_rows
    layout = ShardLayout(shard_rows)
    shards = layout.count(count)
    inputs = {"side": name, "made": count, "shard_rows": shard_rows}
    rows, tokens = (Artifact(context.root, stage, inputs) for stage in ("rows", "tokens"))
    if not tokens.complete:
        clock = tokens.clock()
        todo = pending(tokens.path, "tokens-{:05d}.parquet", shards)
        arguments = {"rows": rows.path, "tokens": tokens.path, "count": count}
        arguments |= {"layout": layout, "salt": len(name)}
        map_shards(MakeShard, arguments, todo, context, f"making {name}", light=True)
        kept = np.diff([*map(layout.begin, range(shards)), count]).tolist()
        for artifact in (rows, tokens):
            write_parquet(artifact / "quarantine.parquet", QUARANTINE.empty_table())
            artifact.commit(
                rows=count, seconds=clock.seconds, details={"shards": shards, "kept": kept}
            )
    return Side(name, rows, tokens, shards)


def _contents(numbers_E: np.ndarray, salt: int) -> pa.Array:
    """Return 32 hexadecimal digits for each number (the finaliser of SplitMix64, twice)."""
    with np.errstate(over="ignore"):
        halves_E2 = np.stack([2 * numbers_E, 2 * numbers_E + 1], axis=1).astype(np.uint64)
        bits = (halves_E2 + np.uint64(salt << 40)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
    text = bits.tobytes().hex().encode()
    offsets = pa.py_buffer(np.arange(0, len(text) + 1, 32, dtype=np.int32))
    return pa.StringArray.from_buffers(len(numbers_E), offsets, pa.py_buffer(text))


def _named(prefix: str, numbers_E: np.ndarray) -> pa.Array:
    text = pc.cast(pa.array(numbers_E), pa.string())
    return pc.binary_join_element_wise(pa.scalar(prefix), text, "")
