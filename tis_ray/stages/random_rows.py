"""Uniform samples of rows by a hash of their ids: those with the lowest hashes, in the order of these.

Which rows they are follows from the ids and a seed alone, whatever the order of the pool, its shards or its size
in memory: a shard is looked at after the other, and only rows that may be among the lowest are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from hashlib import blake2b

import numpy as np
import pyarrow as pa

_ALL = 2**64 - 1


def lowest_rows(
    tables: Callable[[], Iterable[pa.Table]], total: int, size: int, seed: int
) -> tuple[np.ndarray, pa.Table]:
    """Return the places of `size` of `total` rows, in a random order, and the rows themselves in that order.

    tables: gives the rows, one table after the other, with their `id`; the place of a row is counted over all.
    Of equal hashes that of the first row is the lower one.
    """
    size = min(size, total)
    limit = _limit(total, size)
    places, hashes, rows = _up_to(limit, tables(), seed)
    if len(places) < size:  # about never
        places, hashes, rows = _up_to(_ALL, tables(), seed)
    order = np.argsort(hashes, kind="stable")[:size]
    return places[order], rows.take(pa.array(order))


def _limit(total: int, size: int) -> int:
    """Return a hash below which there are at least `size` of `total`, but for one time in 10^9."""
    expected = size + 6 * math.sqrt(size) + 18
    return _ALL if expected >= total else int(2**64 * (expected / total))


def _up_to(
    limit: int, tables: Iterable[pa.Table], seed: int
) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    """Return the places, hashes and rows that are no higher than the limit."""
    places, hashes, rows, seen = [], [], [], 0
    for table in tables:
        hashed = _hashes(table["id"], seed)
        low = np.flatnonzero(hashed <= np.uint64(limit))
        places.append(seen + low)
        hashes.append(hashed[low])
        rows.append(table.take(pa.array(low)))
        seen += len(hashed)
    return np.concatenate(places), np.concatenate(hashes), pa.concat_tables(rows)


def _hashes(ids: pa.ChunkedArray, seed: int) -> np.ndarray:
    """Return (n,) 64 bits for each id, a hash of it and the seed."""
    begin = f"{seed}|".encode()
    names = ids.cast(pa.binary()).to_pylist()
    digests = b"".join([blake2b(begin + name, digest_size=8).digest() for name in names])
    return np.frombuffer(digests, ">u8").astype(np.uint64)
