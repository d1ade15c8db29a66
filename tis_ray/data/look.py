"""A look at a source without reading all of it: the first rows of its files, taken in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from tis_ray.data.checking import checked_rows
from tis_ray.data.files import short_names
from tis_ray.data.ids import Ids
from tis_ray.data.reading import with_mapped
from tis_ray.data.rows import Record, Rejected, Row, Side
from tis_ray.data.sources import SourcePart, described, files_by_kind, parts_of, read_rows

if TYPE_CHECKING:
    from tis_ray.settings import AnySource

MOST_FILES = 64
"""Files of one source that are opened for a look."""
MOST_CHARACTERS = 6_000_000
"""Of all records together: what is encoded in a few seconds."""


@dataclass(frozen=True)
class Look:
    """Rows of a source, as if it had no `sample`.

    opened, files: files that were opened, of all. whole: whether every record was read.
    """

    rows: Iterator[Row | Rejected]
    opened: int
    files: int
    whole: bool


def look_at(source: AnySource, side: Side, most: int | None) -> Look:
    """Return the first rows of a source, as many from each of its files; all of them if `most` is None."""
    if source.holdout is not None:  # which side a row is on is known when all are read
        count = sum(files_by_kind(source).values())
        return Look(read_rows(source, side), count, count, whole=True)
    parts = parts_of(source, side)
    files = [file for part in parts for file in part.files]
    ids = Ids(short_names(files))
    if most is None:
        streams = [_rows(part, part.records(side), side, ids, whole=True) for part in parts]
        return Look(chain.from_iterable(streams), len(files), len(files), whole=True)
    every = [max(1, -(-len(part.files) // MOST_FILES)) for part in parts]
    opened = sum(len(part.files[::step]) for part, step in zip(parts, every, strict=True))
    found, whole = _in_turn(parts, every, side, most)
    whole = whole and opened == len(files)
    # In the order in which they stand, ids are what they are when all is read.
    rows = [
        _rows(part, chain.from_iterable(own), side, ids, whole)
        for part, own in zip(parts, found, strict=True)
    ]
    return Look(chain.from_iterable(rows), opened, len(files), whole)


def _rows(
    part: SourcePart, records: Iterable[Record], side: Side, ids: Ids, whole: bool
) -> Iterator[Row | Rejected]:
    if whole:
        records = with_mapped(records, part.reading, described(part.source))
    return checked_rows(records, side, part.reading, ids)


def _in_turn(
    parts: Sequence[SourcePart], every: Sequence[int], side: Side, most: int
) -> tuple[list[list[list[Record]]], bool]:
    """Return records by part and file, and whether they are all that there are in these files."""
    found: list[list[list[Record]]] = []
    waiting: list[tuple[Iterator[Record], list[Record]]] = []
    for part, step in zip(parts, every, strict=True):
        own = [(stream, list[Record]()) for stream in part.streams(side, step)]
        found.append([records for _, records in own])
        waiting += own
    count = characters = 0
    while waiting:
        going_on = []
        for stream, records in waiting:
            if count == most or characters > MOST_CHARACTERS:
                return found, False
            record = next(stream, None)
            if record is None:
                continue
            records.append(record)
            count, characters = count + 1, characters + len(repr(record.value))
            going_on.append((stream, records))
        waiting = going_on
    return found, True
