"""A file of rows: where it is, what a source calls it, and the record that stands on one of its lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from tis_ray.data.files.opened import PACKED
from tis_ray.data.rows import Record, UnusableError
from tis_ray.storage import Place

_LINES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
KINDS = (".parquet", ".arrow", ".feather", ".ipc", *_LINES)
"""Kinds of files, by the end of their names; what is text may be packed as well."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class RowFile:
    """One file of a source.

    name: its path within the source. source: the label of rows that have none. more: what its folders
    say of its rows (`lang=de/`). split: the part of a data set that its name says it is.
    """

    path: Place
    name: str
    source: str
    more: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None

    @property
    def kind(self) -> str:
        """One of KINDS."""
        kind = kind_of(self.path)
        assert kind is not None
        return kind

    def record(
        self,
        line: int,
        value: object,
        broken: UnusableError | None = None,
        unread: tuple[str, ...] = (),
    ) -> Record:
        """Return what stands on a line, or why it cannot be read."""
        return Record(self.name, line, value, self.source, broken, self.more, unread)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read.

    known: these, of those that it has. needed: of these there must be one.
    """

    known: Collection[str]
    needed: Collection[str]


def kind_of(path: Place | PurePath) -> str | None:
    """Return the kind of a file by its name; None for a file that holds no rows."""
    name = path.name.lower()
    for packing in PACKED:
        if name.endswith(packing):
            name = name.removesuffix(packing)
            return next((kind for kind in _LINES if name.endswith(kind)), None)
    return next((kind for kind in KINDS if name.endswith(kind)), None)


def stem_of(path: Place | PurePath) -> str:
    """Return a name without what says its kind: `p` of `p.jsonl.gz`."""
    name = path.name
    if path.suffix.lower() in PACKED:
        name = name[: -len(path.suffix)]
    return name.rpartition(".")[0]


def label_of_file(path: Place) -> str:
    """Return what rows of a file are labelled by: its stem, without the shard count of a split file."""
    return _SHARD.sub("", stem_of(path))
