"""Sources of rows (files, the hub, the built-in generator, or several of them) as streams of rows.

Files are read in the order of their paths, rows in file order, and never more than a batch of them is
held in memory. Trouble with a single row is a `Rejected`; trouble with a whole file is an InputError.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from tis_ray.data import builtin
from tis_ray.data.checking import checked_rows, sample_rows
from tis_ray.data.files import (
    Columns,
    RowFile,
    common_root,
    file_records,
    found,
    named_files,
    read_twice,
    short_names,
    without_nulls,
)
from tis_ray.data.files.opened import readable
from tis_ray.data.holdout import held_out
from tis_ray.data.hub import hub_records
from tis_ray.data.ids import Ids
from tis_ray.data.reading import Reading, with_mapped
from tis_ray.data.rows import Record, Rejected, Row, Side
from tis_ray.data.schemas import FIELDS, ROW_FIELDS
from tis_ray.errors import InputError
from tis_ray.storage import AnyPlace, content_digest

if TYPE_CHECKING:
    from tis_ray.settings import AnySource, BuiltinSource, FileSource, HubSource

    OneSource: TypeAlias = BuiltinSource | FileSource | HubSource

# Raised whenever the same bytes become different rows, so that no artifact of older rows is reused.
_READING = 3


@dataclass(frozen=True)
class SourcePart:
    """One of the sources of a side, with its files, or else the name that stands for one."""

    source: OneSource
    name: str = ""
    files: list[RowFile] = field(default_factory=list)
    other: int = 0

    @property
    def reading(self) -> Reading:
        """How its records are read."""
        if self.source.kind == "builtin":
            return Reading()
        return Reading(self.source.columns, self.source.train_on)

    def records(self, side: Side) -> Iterator[Record]:
        """Yield the records, file by file."""
        return chain.from_iterable(self.streams(side))

    def streams(self, side: Side, every: int = 1) -> Iterator[Iterator[Record]]:
        """Return the records of each file, or of one file in so many, as they are asked for."""
        if self.source.kind == "builtin":
            return iter([_builtin_records(self.source, side, self.name)])
        if self.source.kind == "hub":
            # Its rows come from tables, which fill what one row lacks with null.
            rows = (
                replace(r, file=self.name, value=without_nulls(r.value))
                for r in hub_records(self.source)
            )
            return iter([rows])
        columns = columns_of(self.reading)
        return (file_records(file, columns) for file in self.files[::every])


def read_rows(
    source: AnySource, side: Side = "pool", *, limit: int | None = None
) -> Iterator[Row | Rejected]:
    """Yield the rows of `source`, in order, with a `Rejected` in place of each unusable one.

    `source.sample` applies first, then `source.holdout`, which parts queries from test rows, then
    `limit`, which keeps the first so many usable rows. A missing path or package raises InputError here;
    a broken file raises it while it is being read.
    """
    rows = _whole(source, "query" if source.holdout is not None else side)
    if source.holdout is not None:
        rows = held_out(rows, source.holdout, source.sample_seed, side, described(source))
    return rows if limit is None else _first_usable(rows, limit)


def _whole(source: AnySource, side: Side) -> Iterator[Row | Rejected]:
    """Yield the rows of a source of which no part is held out."""
    parts = parts_of(source, side)
    ids = Ids(short_names([file for part in parts for file in part.files]))
    rows: Iterator[Row | Rejected] = chain.from_iterable(
        [_part_rows(part, side, ids) for part in parts]
    )
    if source.kind == "list" and source.sample is not None:
        rows = sample_rows(rows, source.sample, source.sample_seed)
    return rows


def read_records(path: AnyPlace) -> Iterator[Record]:
    """Yield the records in the files of a path, unchanged, each under its file's whole path."""
    at = found(str(path))
    files = named_files(at, at.root, split=None, label=None)
    return chain.from_iterable(file_records(replace(f, name=str(f.path))) for f in files)


def content_fingerprint(
    source: AnySource, side: Side = "pool", digests: Mapping[str, str] | None = None
) -> str:
    """Return 32 hexadecimal digits that identify the rows of `source`.

    Files are identified by their bytes and their names within the source, wherever that is; the
    generator by its version and settings; a hub data set by id and revision, so pin the revision: an
    unpinned one may change unnoticed. digests: `file_digests` of all files, where they are known.
    """
    spec: list[object] = [_READING, side]
    if source.holdout is not None:
        spec.append(["holdout", source.holdout, source.sample_seed])
    if source.kind == "list":
        spec.append([source.sample, source.sample and source.sample_seed])
    for part in parts_of(source):
        own = part.source
        spec += [own.kind, own.sample, own.sample and own.sample_seed]
        if own.kind == "builtin":
            spec += [builtin.VERSION, own.rows, own.seed, own.skill]
            continue
        spec += [sorted(own.columns.items()), own.train_on, own.source]
        if own.kind == "hub":
            spec += [own.name, own.config, own.split, own.revision]
        known = file_digests(part.files) if digests is None else digests
        for file in part.files:
            spec.append([file.name, file.source, sorted(file.more.items()), known[file.name]])
    return blake2b(json.dumps(spec).encode(), digest_size=16).hexdigest()


def file_digests(files: Iterable[RowFile]) -> dict[str, str]:
    """Return the hash of the bytes of each file, by its name."""
    digests = {}
    for file in files:
        with readable(file.path):
            digests[file.name] = content_digest(file.path).hex()
    return digests


def files_by_kind(source: AnySource) -> dict[str, int]:
    """Return how many files of each kind a source reads, and as `other` how many in its folders it does not."""
    parts = parts_of(source)
    counts = Counter(file.kind for part in parts for file in part.files)
    other = sum(part.other for part in parts)
    return {**dict(sorted(counts.items())), **({"other": other} if other else {})}


def described(source: AnySource) -> str:
    """Return what a source is called in a line: its path, its name on the hub, or its kind."""
    match source.kind:
        case "file":
            return source.path
        case "hub":
            return f"hub:{source.name}"
        case "list":
            return ", ".join(described(part) for part in source.sources)
    return source.kind


def parts_of(source: AnySource, side: Side = "pool") -> list[SourcePart]:
    """Return the sources of a side. Raises InputError for a path that is missing or read twice."""
    sources = source.with_shares() if source.kind == "list" else [source]
    at = {place: found(one.path) for place, one in enumerate(sources) if one.kind == "file"}
    root = common_root(at.values()) if at else None
    parts, names = [], Counter[str]()
    for place, one in enumerate(sources):
        if one.kind == "file":
            files = named_files(at[place], root, one.split, one.source)
            parts.append(SourcePart(one, files=files, other=at[place].other))
            continue
        name = f"builtin:{side}" if one.kind == "builtin" else described(one)
        names[name] += 1
        # Two configurations of a data set, or two seeds, have their own lines.
        parts.append(SourcePart(one, name if names[name] == 1 else f"{name}#{names[name]}"))
    if twice := read_twice(file for part in parts for file in part.files):
        raise InputError(f"{described(source)}: {twice} is read twice; name it once")
    return parts


def _part_rows(part: SourcePart, side: Side, ids: Ids) -> Iterator[Row | Rejected]:
    records = with_mapped(part.records(side), part.reading, described(part.source))
    rows = checked_rows(records, side, part.reading, ids)
    if part.source.sample is not None:
        rows = sample_rows(rows, part.source.sample, part.source.sample_seed)
        if part.source.weight is not None:
            rows = _all_of(rows, part.source)
    return rows


def _all_of(rows: Iterable[Row | Rejected], source: OneSource) -> Iterator[Row | Rejected]:
    """Yield a source's share of a sample; InputError if it is smaller, so that weights are kept."""
    usable = 0
    for row in rows:
        usable += not isinstance(row, Rejected)
        yield row
    if usable < (source.sample or 0):
        raise too_small(source, usable)


def too_small(source: OneSource, usable: int) -> InputError:
    """Return the error of a source that has not the rows which its weight asks for."""
    return InputError(
        f"{described(source)}: has {usable} usable rows, and {source.sample} are its share of the sample by "
        "weight; lower the sample, or its weight"
    )


def columns_of(reading: Reading) -> Columns:
    """Return the columns of a table that mean something, under the names that it has."""

    def named(fields: Collection[str]) -> set[str]:
        paths = {path for name, path in reading.fields.items() if name in fields}
        return {*fields, *paths, *(path.partition(".")[0] for path in paths)}

    return Columns(known=named(FIELDS), needed=named(ROW_FIELDS))


def _builtin_records(source: BuiltinSource, side: Side, name: str) -> Iterator[Record]:
    rows: Iterator[object]
    if side == "pool":
        rows = iter(builtin.iter_pool_rows(source.rows, source.seed))
    elif source.skill is None:
        raise InputError(f"data.{side}.skill is missing: name one skill of the generator")
    else:
        make = builtin.query_rows if side == "query" else builtin.test_rows
        rows = iter(make(source.skill, source.rows, source.seed))
    return (Record(name, n, row, "builtin") for n, row in enumerate(rows, 1))


def _first_usable(rows: Iterator[Row | Rejected], limit: int) -> Iterator[Row | Rejected]:
    usable = 0
    for row in rows if limit > 0 else ():
        yield row
        usable += not isinstance(row, Rejected)
        if usable == limit:
            return
