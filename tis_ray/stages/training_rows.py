"""The rows that one training reads, checked by digest so that no others are trained on; and its progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch.distributed as dist

from tis_ray.batches import Example
from tis_ray.stages.random_rows import lowest_rows
from tis_ray.storage import Place, pace
from tis_ray.store import file_digest, find_json, read_parquet, write_json, write_parquet
from tis_ray.store.sides import TOKENS, Side


class LostRowsError(RuntimeError):
    """The rows that a training was to read are missing, or are others."""


@dataclass(frozen=True)
class Subset:
    """Rows to train on: their file, how many they are, and the digest of the file's bytes."""

    file: Place
    rows: int
    digest: str

    @classmethod
    def write(cls, file: Place, tokens: pa.Table) -> Subset:
        """Write token rows for a training to read."""
        write_parquet(file, tokens)
        return cls(file, tokens.num_rows, file_digest(file))

    def examples(self, name: str) -> list[Example]:
        """Read the rows for the training `name`; raise LostRowsError if they are not those written."""
        there = self.file.exists()
        if not there or file_digest(self.file) != self.digest:
            state = "was changed or cut" if there else "is missing"
            raise LostRowsError(
                f"{name}: {self.file} {state}, so the {self.rows} rows to train on are lost; the same "
                "command writes them again"
            )
        table = read_parquet(self.file, ["input_ids", "labels"])
        examples: list[Example] = table.to_pylist()
        return examples


def sample_rows(pool: Side, size: int, seed: int) -> np.ndarray:
    """Return the positions of a uniform sample, in the order they are trained on.

    Both follow from a hash of the rows' ids, so the order of the pool file does not matter.
    """

    def ids() -> Iterator[pa.Table]:
        return (pool.token_table(shard, ["id"]) for shard in range(pool.shards))

    return lowest_rows(ids, pool.usable, size, seed)[0]


def take_examples(pool: Side, positions: np.ndarray) -> pa.Table:
    """Return the token rows at `positions` among the usable rows, in the order of `positions`.

    Only the shards that they lie in are read.
    """
    groups = pool.shards_at(positions)
    parts = [
        pool.token_table(shard).take(pa.array(positions[mine] - pool.starts[shard]))
        for shard, mine in groups.items()
    ]
    order = np.argsort(np.concatenate([*groups.values()]), kind="stable")
    return pa.concat_tables(parts).take(order).cast(TOKENS)


def progress_writer(folder: Place) -> Callable[[int, int], None]:
    """Return a callback that leaves `progress.json` for whoever watches, at most once a second."""
    written = 0.0

    def write(step: int, total: int) -> None:
        nonlocal written
        first = not dist.is_initialized() or dist.get_rank() == 0
        if first and (time.monotonic() - written > pace(folder, 1.0) or step == total):
            written = time.monotonic()
            write_json(folder / "progress.json", {"step": step, "total": total})

    return write


def training_progress(folder: Place) -> tuple[int, int]:
    """Return (step, total) of the training in `folder`; (0, 0) before its first step."""
    progress = find_json(folder / "progress.json")
    return (0, 0) if progress is None else (progress["step"], progress["total"])
