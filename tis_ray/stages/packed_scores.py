"""Score files as selectors read them: those of some neighbouring shards in one, tens of megabytes each.

A worker that scores leaves files for each shard, so that a run which is interrupted goes on; selectors open every file
for every query, and a small file costs as much as a large one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from tis_ray.distributed.shards import ShardFacts
from tis_ray.storage import Place, file_sizes
from tis_ray.store import read_npy, read_parquet, write_npy, write_parquet

BYTES = 32 << 20
"""Of scores in one file, at least, where there are so many."""


def packs(parts: Place, shards: int) -> list[range]:
    """Return which neighbouring shards go into one file, by the sizes of theirs in `parts`."""
    sizes = file_sizes([parts / f"scores-{shard:05d}.npy" for shard in range(shards)])
    found, first, held = [], 0, 0
    for shard, size in enumerate(sizes):
        held += size
        if held >= BYTES:
            found.append(range(first, shard + 1))
            first, held = shard + 1, 0
    if first < shards:
        found.append(range(first, shards))
    return found


class PackScores:
    """Brings together the files of some shards, which are in `parts`; the scores come last.

    noisy: whether there is noise of theirs. What comes of it goes to `parts` too.
    """

    def __init__(self, parts: Place, out: Place, groups: Sequence[range], noisy: bool) -> None:
        self.parts, self.out, self.groups, self.noisy = parts, out, groups, noisy

    def __call__(self, pack: int) -> ShardFacts:
        """Write the rows of one file of scores, and the scores."""
        start, shards = time.monotonic(), self.groups[pack]
        rows, scores_MN = packed(self.parts, shards)
        write_parquet(self.out / f"rows-{pack:05d}.parquet", rows)
        if self.noisy:
            noise = [read_npy(self.parts / f"noise-{shard:05d}.npy") for shard in shards]
            write_npy(self.parts / f"packed-noise-{pack:05d}.npy", packed_noise(noise))
        write_npy(self.out / f"scores-{pack:05d}.npy", scores_MN)
        return {"rows": rows.num_rows, "seconds": time.monotonic() - start}


def packed(parts: Place, shards: Iterable[int]) -> tuple[pa.Table, np.ndarray]:
    """Return the rows of shards, with what was measured of them, and their scores (M, N)."""
    rows = [read_parquet(parts / f"rows-{shard:05d}.parquet") for shard in shards]
    # A shard without rows does not know what its columns hold.
    known = [table for table in rows if table.num_rows] or rows[:1]
    scores = [read_npy(parts / f"scores-{shard:05d}.npy") for shard in shards]
    return pa.concat_tables(known).combine_chunks(), np.concatenate(scores, axis=1)


def packed_noise(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return noise (2, M, 1 + s): of parts of columns, the sums that come first in each and all samples."""
    sums = np.sum([part[:, :, :1] for part in parts], axis=0)
    return np.concatenate([sums, *(part[:, :, 1:] for part in parts)], axis=2)
