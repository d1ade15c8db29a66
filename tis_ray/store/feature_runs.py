"""Where the features of a side's rows lie, as runs: neighbouring rows at neighbouring places of one file.

Rows that were featurised together are one run, so a pool has about as many runs as shards; of rows that are
picked here and there, or that were in another order when they were featurised, a run has a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tis_ray.storage import Place
from tis_ray.store.files import read_parquet

SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("row", pa.int64()),
        ("file", pa.string()),
        ("position", pa.int32()),
        ("count", pa.int32()),
    ]
)
"""A run: the shard of tokens that its rows stand in, its first row, the file, its first position there, its length."""

RUN = np.dtype(
    [("shard", "i4"), ("row", "i8"), ("file", "i4"), ("position", "i4"), ("count", "i4")]
)
"""The same in memory, with a number for the file."""


@dataclass(frozen=True)
class Runs:
    """R runs in the order of shards, (R,) each: of `file_R` the places in `files`."""

    shard_R: np.ndarray
    row_R: np.ndarray
    file_R: np.ndarray
    position_R: np.ndarray
    count_R: np.ndarray
    files: list[str]

    @classmethod
    def read(cls, path: Place) -> Runs:
        """Read the runs of a side. Errors are those of `read_parquet`."""
        table = read_parquet(path)
        coded = table["file"].combine_chunks().dictionary_encode()
        # Arrow's own conversion imports pandas, half of what `explain` takes.
        shard_R, row_R, position_R, count_R, file_R = (
            np.from_dlpack(column)
            for column in (
                *(table[name].combine_chunks() for name in ("shard", "row", "position", "count")),
                coded.indices,
            )
        )
        return cls(shard_R, row_R, file_R, position_R, count_R, coded.dictionary.to_pylist())

    def of(self, shard: int) -> Runs:
        """Return the runs of one shard."""
        begin, end = np.searchsorted(self.shard_R, [shard, shard + 1])
        part = slice(begin, end)
        return Runs(
            self.shard_R[part],
            self.row_R[part],
            self.file_R[part],
            self.position_R[part],
            self.count_R[part],
            self.files,
        )

    def rows(self) -> np.ndarray:
        """Return the row numbers."""
        return _spread(self.row_R, self.count_R)

    def positions(self) -> np.ndarray:
        """Return the position of each row in its file."""
        return _spread(self.position_R, self.count_R)

    def owners(self) -> np.ndarray:
        """Return the file of each row, as its place in `files`."""
        return np.repeat(self.file_R, self.count_R)

    def counts(self, shards: int) -> np.ndarray:
        """Return how many rows each of so many shards has."""
        return np.bincount(self.shard_R, weights=self.count_R, minlength=shards).astype(np.int64)


def runs_of(
    shard: int, rows_n: np.ndarray, owners_n: np.ndarray, positions_n: np.ndarray
) -> np.ndarray:
    """Return the runs of a shard's rows, (R,) of type RUN.

    rows_n: their numbers. owners_n: the file of each, as a number. positions_n: where in it.
    """
    follows = (np.diff(rows_n) == 1) & (np.diff(positions_n) == 1) & (np.diff(owners_n) == 0)
    starts = np.flatnonzero(np.append([True] if len(rows_n) else [], ~follows))
    runs = np.zeros(len(starts), RUN)
    runs["shard"], runs["row"], runs["file"] = shard, rows_n[starts], owners_n[starts]
    runs["position"], runs["count"] = positions_n[starts], np.diff(np.append(starts, len(rows_n)))
    return runs


def runs_table(parts: Sequence[np.ndarray], files: Sequence[str]) -> pa.Table:
    """Return runs, (R,) of type RUN each part, as a table of SCHEMA; `files` are the names of their files."""
    runs = np.concatenate([np.zeros(0, RUN), *parts])
    columns = {name: runs[name] for name in SCHEMA.names}
    columns["file"] = pa.array(files, pa.string()).take(pa.array(runs["file"]))
    arrays = [pa.array(columns[field.name], field.type) for field in SCHEMA]
    return pa.table(arrays, schema=SCHEMA)


def _spread(first_R: np.ndarray, count_R: np.ndarray) -> np.ndarray:
    """Return first, first + 1, ..., of each run, one run after the other, as int64."""
    before_R = np.cumsum(count_R) - count_R
    spread: np.ndarray = np.repeat(first_R.astype(np.int64) - before_R, count_R)
    return spread + np.arange(len(spread))
