"""From records to rows: each becomes a row with an id of its own, or the reason why it cannot."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from tis_ray.data.ids import Ids
from tis_ray.data.reading import Reading, given_id, row_of
from tis_ray.data.rows import (
    Record,
    Rejected,
    RejectReason,
    Row,
    Side,
    UnusableError,
    content_id,
)
from tis_ray.errors import InputError


def checked_rows(
    records: Iterable[Record],
    side: Side = "pool",
    reading: Reading | None = None,
    ids: Ids | None = None,
) -> Iterator[Row | Rejected]:
    """Yield, for each record in order, the row it holds or the reason why it holds none.

    ids: those of the rows before, if there were some. Memory grows only with the number of ids.
    """
    ids = ids or Ids()
    for row in hashed_rows(records, side, reading or Reading()):
        if isinstance(row, Rejected):
            yield row
            continue
        given = row.get("given_id")
        try:
            row["id"] = ids.settle(row["file"], given, row["content"])
        except UnusableError as error:
            yield Rejected(row["file"], row["line"], given, error.reason, error.detail)
        else:
            yield row


def hashed_rows(
    records: Iterable[Record], side: Side, reading: Reading
) -> Iterator[Row | Rejected]:
    """Yield the same without ids, but with the hash of what each row says: all that a row has by itself."""
    for record in records:
        try:
            row = row_of(record, side, reading)
            row["content"] = content_id(row)
        except UnusableError as error:
            yield _rejected(record, reading, error)
        except RecursionError:
            too_deep = UnusableError(RejectReason.WRONG_TYPE, "row: is nested too deeply")
            yield _rejected(record, reading, too_deep)
        else:
            yield row


def sample_rows(rows: Iterable[Row | Rejected], n: int, seed: int = 0) -> Iterator[Row | Rejected]:
    """Yield a uniform sample of `n` rows, without replacement, in the order they came.

    A row's chance depends only on (seed, id), through a hash whose n lowest values are kept: the
    sample does not change when the pool is reordered or split, and a smaller sample is part of a
    larger one. Holds n rows in memory. All rejected rows are passed on: sampling must not hide them.
    """
    if n < 1:
        raise InputError(f"sample: {n} rows cannot be drawn; give 1 or more")
    lowest: list[tuple[int, int, Row]] = []  # a heap whose top is the row to give up next
    rejected: list[tuple[int, Rejected]] = []
    for place, row in enumerate(rows):
        if isinstance(row, Rejected):
            rejected.append((place, row))
            continue
        entry = (-sample_hash(row["id"], seed), -place, row)
        if len(lowest) < n:
            heapq.heappush(lowest, entry)
        elif entry[:2] > lowest[0][:2]:
            heapq.heapreplace(lowest, entry)
    kept: list[tuple[int, Row | Rejected]] = [(-place, row) for _, place, row in lowest]
    yield from (row for _, row in sorted([*kept, *rejected], key=lambda entry: entry[0]))


def sample_hash(row_id: str, seed: int) -> int:
    """Return 64 bits of a row's id and a seed: rows with the lowest ones are a sample."""
    key = f"tis_ray sample {seed}".encode()
    return int.from_bytes(blake2b(row_id.encode(), key=key, digest_size=8).digest())


def _rejected(record: Record, reading: Reading, error: UnusableError) -> Rejected:
    # A name of a field may hold what no file can: half of a surrogate pair.
    detail = error.detail.encode(errors="backslashreplace").decode()
    detail = " ".join(detail.splitlines())
    return Rejected(record.file, record.line, given_id(record, reading), error.reason, detail)
