"""A source in portions that are read by themselves: ranges of a large file, several small ones together.

Lines are parted at bytes and Parquet files at row groups; packed files, arrays, CSV and Arrow files stay
whole. Rows come in the order of the portions.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from tis_ray.data.files import RowFile, file_records
from tis_ray.data.files.arrow_tables import parquet_records
from tis_ray.data.files.json_lines import Span, line_records
from tis_ray.data.files.opened import PACKED, readable
from tis_ray.data.rows import Record, Side
from tis_ray.data.sources import SourcePart, columns_of
from tis_ray.storage import file_sizes, open_parquet

BYTES = 32 << 20
"""Of a portion, about: a few seconds of reading."""
MOST_FILES = 1000
"""In one portion."""


@dataclass(frozen=True)
class Portion:
    """What is read in one go.

    part: which of the sources of a side. files: of it; none for one that has no files. span, groups: of one
    file, the bytes between which its lines begin, or its row groups; None for all of it.
    """

    part: int
    files: tuple[RowFile, ...] = ()
    size: int = 0
    span: Span | None = None
    groups: range | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it begins inside a file, of which the portions before hold the first lines."""
        inside = self.groups if self.span is None else self.span
        return inside is not None and inside[0] > 0

    def records(self, part: SourcePart, side: Side) -> Generator[Record, None, int]:
        """Yield its records, lines counted from 1; return how many lines, or rows of a table, one file had."""
        columns = columns_of(part.reading)
        if not self.files:
            yield from part.records(side)
        elif self.span is not None:
            return (yield from line_records(self.files[0], span=self.span))
        elif self.groups is not None:
            return (yield from parquet_records(self.files[0], columns, self.groups))
        for file in self.files:
            yield from file_records(file, columns)
        return 0


def portions_of(parts: Sequence[SourcePart], size: int = BYTES) -> list[Portion]:
    """Return the portions of the sources of a side (`parts_of`), of about `size` bytes each."""
    return [one for place, part in enumerate(parts) for one in _of_part(place, part, size)]


def _of_part(place: int, part: SourcePart, size: int) -> Iterator[Portion]:
    if not part.files:
        yield Portion(place)
        return
    together: list[RowFile] = []
    held = 0
    sizes = file_sizes([file.path for file in part.files])
    for file in part.files:
        with readable(file.path):
            length = next(sizes)
        parted = length > size and _can_be_parted(file)
        if together and (parted or held + length > size or len(together) == MOST_FILES):
            yield Portion(place, (*together,), held)
            together, held = [], 0
        if parted:
            yield from _ranges(place, file, length, size)
        else:
            together.append(file)
            held += length
    if together:
        yield Portion(place, (*together,), held)


def _can_be_parted(file: RowFile) -> bool:
    lines = file.kind in (".jsonl", ".ndjson") and file.path.suffix.lower() not in PACKED
    return lines or file.kind == ".parquet"


def _ranges(place: int, file: RowFile, length: int, size: int) -> Iterator[Portion]:
    if file.kind != ".parquet":
        for begin in range(0, length, size):
            end = min(begin + size, length)
            yield Portion(place, (file,), end - begin, span=(begin, end))
        return
    with readable(file.path), open_parquet(file.path) as opened:
        footer = opened.metadata
        sizes = [footer.row_group(group).total_byte_size for group in range(footer.num_row_groups)]
    begin = held = 0
    for group, own in enumerate(sizes):
        if begin < group and held + own > size:
            yield Portion(place, (file,), held, groups=range(begin, group))
            begin, held = group, 0
        held += own
    yield Portion(place, (file,), held, groups=range(begin, len(sizes)))
