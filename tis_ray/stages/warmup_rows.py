"""The rows of a warm-up: a random share of the pool, named by what they say.

They are drawn from the pool as it is without `constraints.exclude`, and what is made of them is named by
them: excluding rows, or changing others, trains nothing anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tis_ray.data import RejectReason
from tis_ray.representations import Warmup
from tis_ray.settings import ModelConfig
from tis_ray.stages.context import Context
from tis_ray.stages.random_rows import lowest_rows
from tis_ray.stages.tokens import Tokenise
from tis_ray.stages.training_rows import take_examples
from tis_ray.store import TableRow, fingerprint, read_parquet
from tis_ray.store.sides import TOKENS, Side, row_dicts


@dataclass(frozen=True)
class Sample:
    """Rows of the pool, in the order they are trained on.

    places: among the usable rows and, behind these, the excluded ones. digest: of what the rows say, and
    of how they become tokens.
    """

    pool: Side
    excluded: pa.Table
    places: np.ndarray
    digest: str

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.places)

    def tokens(self) -> pa.Table:
        """Read the rows as tokens."""
        usable = self.places < self.pool.usable
        parts = [self.excluded.take(pa.array(self.places[~usable] - self.pool.usable))]
        if usable.any():
            parts.insert(0, take_examples(self.pool, self.places[usable]))
        order = np.argsort(np.concatenate([np.flatnonzero(usable), np.flatnonzero(~usable)]))
        return pa.concat_tables(parts).take(pa.array(order))


def warmup_sample(warmup: Warmup, context: Context, model: ModelConfig, pool: Side) -> Sample:
    """Return the share of the pool that a warm-up is trained on; `model` is whose tokens `pool` has."""
    excluded = _excluded(context, model, pool)
    columns = ["id", "content"]

    def known() -> Iterator[pa.Table]:
        yield from (pool.token_table(shard, columns) for shard in range(pool.shards))
        yield excluded.select(columns)

    total = pool.usable + excluded.num_rows
    size = max(warmup.min_rows, round(warmup.share * total))
    places, rows = lowest_rows(known, total, size, warmup.seed)
    tokens = pool.tokens
    encoding = {k: v for k, v in tokens.inputs.items() if k not in ("rows", "dropped")}
    named = [encoding, tokens.version, rows["content"].to_pylist()]
    return Sample(pool, excluded, places, fingerprint(named))


def _excluded(context: Context, model: ModelConfig, pool: Side) -> pa.Table:
    """Return the rows that `constraints.exclude` alone keeps from the pool, as tokens."""
    names = {row["id"] for row in pool.quarantined() if row["reason"] == RejectReason.EXCLUDED}
    rows: list[TableRow] = []
    if names:
        data = context.config.data
        folder = pool.rows.path
        encoder = Tokenise(folder, folder, "pool", model, data.template, data.max_length)
        for shard in range(pool.shards):
            path = folder / f"rows-{shard:05d}.parquet"
            if not names.isdisjoint(read_parquet(path, ["id"])["id"].to_pylist()):
                stored = (row for row in row_dicts(path) if row["id"] in names)
                rows += [row for row in map(encoder.stored, stored) if row is not None]
    return pa.Table.from_pylist(rows, schema=TOKENS)
