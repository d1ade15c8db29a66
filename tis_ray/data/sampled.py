"""A sample of a side's rows, and how many there are, without reading all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from tis_ray.data.checking import checked_rows
from tis_ray.data.files import RowFile, short_names
from tis_ray.data.files.counted import Count, count_records, sampled_records
from tis_ray.data.ids import Ids
from tis_ray.data.look import MOST_FILES
from tis_ray.data.rows import Record, Rejected, Row, Side
from tis_ray.data.sources import SourcePart, columns_of, parts_of, read_rows
from tis_ray.storage import file_sizes

if TYPE_CHECKING:
    from tis_ray.settings import AnySource


@dataclass(frozen=True)
class SideSample:
    """Rows of a side, spread over its files as far as their kind allows, refused ones among them.

    count: of all records. wanted: usable rows that the source's `sample` leaves, if it has one.
    """

    rows: list[Row | Rejected]
    count: Count
    wanted: int | None

    @property
    def usable(self) -> list[Row]:
        """Those that a study could use."""
        return [row for row in self.rows if not isinstance(row, Rejected)]

    @property
    def refused(self) -> dict[str, int]:
        """The others by reason; repeats of ids that no sample can show are not among them."""
        reasons = (str(row.reason) for row in self.rows if isinstance(row, Rejected))
        return dict(Counter(reasons).most_common())

    @property
    def usable_rows(self) -> Count:
        """How many usable rows a study has: as many of all as of the sample, at most those wanted."""
        read = max(len(self.rows), 1)
        count = self.count.times(len(self.usable) / read, of=read)
        most = float("inf") if self.wanted is None else self.wanted
        return Count(*(min(n, most) for n in (count.rows, count.low, count.high)))


def sample_side(source: AnySource, side: Side, rows: int) -> SideSample:
    """Return about `rows` rows of a source. Of a hub data set, the whole of which is read, the first ones.

    Raises InputError for a path that is missing or a file that cannot be read.
    """
    if source.holdout is not None:  # a handful, and which part is held out follows from all of them
        parted = list(read_rows(source, side))
        return SideSample(parted, Count.of(len(parted)), None)
    parts = parts_of(source, side)
    ids = Ids(short_names([file for part in parts for file in part.files]))
    found: list[Row | Rejected] = []
    count, wanted = Count.of(0), 0.0
    for part in parts:
        records, own = _part(part, side, -(-rows // len(parts)))
        found += checked_rows(records, side, part.reading, ids)
        count += own
        sample = part.source.sample
        wanted += own.rows if sample is None else min(own.rows, sample)
    if source.kind == "list" and source.sample is not None:
        wanted = min(wanted, source.sample)
    return SideSample(found, count, round(wanted) if wanted < count.rows else None)


def _part(part: SourcePart, side: Side, rows: int) -> tuple[Iterator[Record], Count]:
    if part.source.kind == "builtin":
        # Its rows are independent of each other, the first as good a sample as any.
        return islice(part.records(side), rows), Count.of(part.source.rows)
    if part.source.kind == "hub":
        records = [*part.records(side)]
        return iter(records[:: max(1, len(records) // rows)]), Count.of(len(records))
    count = sum(map(count_records, part.files), Count.of(0))
    return _spread(part, rows), count


def _spread(part: SourcePart, rows: int) -> Iterator[Record]:
    """Yield records of the files, or of one in so many, of each as many as its size says."""
    files: list[RowFile] = part.files[:: max(1, -(-len(part.files) // MOST_FILES))]
    sizes = [*file_sizes([file.path for file in files])]
    for file, size in zip(files, sizes, strict=True):
        share = max(1, round(rows * size / max(sum(sizes), 1)))
        yield from sampled_records(file, share, columns_of(part.reading))
