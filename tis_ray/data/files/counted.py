"""How many records a file holds, and a sample of them, without reading all of it.

Footers of tables say how many rows there are. Lines are counted in small files and estimated in large
ones, from parts that lie evenly over the file; of a packed file only its beginning can be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import numpy as np
import pyarrow as pa

from tis_ray.data.files.arrow_tables import parquet_records
from tis_ray.data.files.json_lines import lines_at
from tis_ray.data.files.opened import PACKED, opened, readable
from tis_ray.data.files.row_file import Columns, RowFile
from tis_ray.data.json_text import PLAIN
from tis_ray.data.rows import Record
from tis_ray.storage import Place, local_file, open_parquet

SMALL = 32 << 20
"""Bytes of a file whose lines are all counted."""
TINY = 4 << 20
"""Bytes of a file that is read whole for a sample,"""
FEW = 50_000
"""if it has no more rows than these: rows that are alike may lie a million to a megabyte."""
_PART = 1 << 18
_PARTS = 64
"""Parts of a large file in which lines are counted: 16 MiB together."""
_HEAD = 16 << 20
"""Of a packed file, and of one array, unpacked bytes that are looked at."""
_EMPTY = re.compile(rb"\n[ \t\r]*(?=\n)")
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Count:
    """A number of records; `low` and `high` are its 95% interval, where it is estimated."""

    rows: float
    low: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether it was counted."""
        return self.low == self.high

    def __add__(self, other: Count) -> Count:
        """Return the sum; the errors of two files have nothing to do with each other."""
        rows = self.rows + other.rows
        below = ((self.rows - self.low) ** 2 + (other.rows - other.low) ** 2) ** 0.5
        above = ((self.high - self.rows) ** 2 + (other.high - other.rows) ** 2) ** 0.5
        return Count(rows, rows - below, rows + above)

    def times(self, share: float, of: int) -> Count:
        """Return a share of it, which so many of a sample have: the error of that is added."""
        rows = self.rows * share
        unseen = max(0.0, 1 - of / self.rows) if self.rows else 0.0
        chance = 1.96 * self.rows * (share * (1 - share) / of * unseen) ** 0.5
        below = ((rows - self.low * share) ** 2 + chance**2) ** 0.5
        above = ((self.high * share - rows) ** 2 + chance**2) ** 0.5
        return Count(rows, rows - below, rows + above)

    @classmethod
    def of(cls, rows: int) -> Count:
        """Return what was counted."""
        return cls(rows, rows, rows)


def count_records(file: RowFile) -> Count:
    """Return how many records a file holds, as its footer or its lines say."""
    path = file.path
    with readable(path):
        if file.kind == ".parquet":
            with open_parquet(path) as opened_file:
                return Count.of(opened_file.metadata.num_rows)
        if file.kind in (".arrow", ".feather", ".ipc"):
            return Count.of(_arrow_rows(path))
        if file.kind == ".json" and (elements := _elements(path)) is not None:
            return elements
        packed = path.suffix.lower() in PACKED
        if file.kind in (".csv", ".tsv") and not packed and path.stat().st_size <= SMALL:
            # A text in quotes has lines of its own.
            return Count.of(sum(1 for _ in _records(file, None)))
        lines = _packed_lines(path) if packed else _lines(path)
        if file.kind in (".csv", ".tsv"):
            return Count(lines.rows - 1, lines.low - 1, lines.high - 1)  # the names of its columns
        return lines


def sampled_records(file: RowFile, count: int, columns: Columns | None) -> Iterator[Record]:
    """Yield up to `count` records: of a small file by chance, else from all parts of it that can be reached.

    These are Parquet's row groups, and lines that are not packed; of other large files the first ones.
    The line of a record that is found in the middle of a large file is not known: 0.
    """
    size, packed = file.path.stat().st_size, file.path.suffix.lower() in PACKED
    if size <= TINY and not packed and not _is_long(file):
        every = [*_records(file, columns)]
        # By chance: what is wrong in every tenth row must not be missed, nor be all that is seen.
        places = Random(0).sample(range(len(every)), min(count, len(every)))
        yield from (every[place] for place in sorted(places))
    elif file.kind == ".parquet":
        with readable(file.path), open_parquet(file.path) as table:
            groups = table.num_row_groups
        for group in _spread(groups, count):
            yield from islice(parquet_records(file, columns, [group]), -(-count // groups))
    elif file.kind in (".jsonl", ".ndjson") and not packed:
        parts = min(_PARTS, count)
        for begin in np.linspace(0, size, parts, endpoint=False).astype(int).tolist():
            yield from islice(lines_at(file, begin), -(-count // parts))
    else:
        yield from islice(_records(file, columns), count)


def _is_long(file: RowFile) -> bool:
    if file.kind != ".parquet":
        return False
    with readable(file.path), open_parquet(file.path) as table:
        return table.metadata.num_rows > FEW


def _records(file: RowFile, columns: Columns | None) -> Iterator[Record]:
    from tis_ray.data.files import file_records  # which knows all kinds, this module's own too

    return file_records(file, columns)


def _spread(parts: int, count: int) -> list[int]:
    return np.unique(np.linspace(0, parts - 1, min(parts, count)).astype(int)).tolist()


def _arrow_rows(path: Place) -> int:
    with pa.memory_map(str(local_file(path))) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if is_file:
            reader = pa.ipc.open_file(source)
            return sum(reader.get_batch(n).num_rows for n in range(reader.num_record_batches))
        return sum(batch.num_rows for batch in pa.ipc.open_stream(source))


def _lines(path: Place) -> Count:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= SMALL:
            return Count.of(sum(not line.isspace() for line in file))
        found = []
        for begin in np.linspace(0, size - _PART, _PARTS).astype(int).tolist():
            file.seek(begin)
            found.append(_line_ends(file.read(_PART)))
    return _estimated(np.array(found) / _PART, size)


def _line_ends(block: bytes) -> int:
    """Return how many lines end in a block; empty ones are no records."""
    return block.count(b"\n") - len(_EMPTY.findall(block))


def _packed_lines(path: Place) -> Count:
    """Return the lines of a packed file, from how many its beginning has to a packed byte."""
    size = path.stat().st_size
    with path.open("rb") as raw, pa.PythonFile(raw, "r") as source:
        stream = pa.CompressedInputStream(source, PACKED[path.suffix.lower()])
        lines = 0
        read, last, marks = 0, b"\n", []
        while read < _HEAD or size <= SMALL:
            block = stream.read(1 << 20)
            if not block:
                return Count.of(lines + (last != b"\n"))
            lines += _line_ends(last + block) - (last == b"\n")
            read, last = read + len(block), block[-1:]
            marks.append((raw.tell(), lines))
    # What is read ahead of the lines is left out of differences.
    steps = np.diff(np.array(marks), axis=0)
    steps = steps[steps[:, 0] > 0]
    return _estimated(steps[:, 1] / steps[:, 0], size, steps[:, 1].sum() / steps[:, 0].sum())


def _elements(path: Place) -> Count | None:
    """Return the elements of an array, all or by the length of the first ones; None for JSON lines."""
    size = path.stat().st_size
    with opened(path) as file:
        head = file.read(_HEAD).decode("utf-8-sig", errors="ignore")
    place = len(head) - len(head.lstrip())
    if head[place : place + 1] != "[" or path.suffix.lower() in PACKED:
        return None
    lengths, place = [], place + 1
    while match := _BETWEEN.match(head, place):
        begin = match.end()
        try:
            _, end = PLAIN.raw_decode(head, begin)
        except (ValueError, RecursionError):
            break
        lengths.append(end - place)
        place = end
    if head[place:].strip() == "]":
        return Count.of(len(lengths))
    return _estimated(1 / np.array(lengths), size, len(lengths) / max(place, 1))


def _estimated(density: np.ndarray, size: int, mean: float | None = None) -> Count:
    """Return the lines of so many bytes, from those to a byte in some parts."""
    mean = float(density.mean()) if mean is None else mean
    half = 1.96 * float(density.std(ddof=1) / len(density) ** 0.5) if len(density) > 1 else mean
    return Count(size * mean, size * max(mean - half, 0.0), size * (mean + half))
