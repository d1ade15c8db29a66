"""Records as they came, found again by where they stand: as text of JSON, or as rows of a table.

Only what is asked for is parsed: of JSON lines the lines, of Parquet the row groups. What came as text
stays the text that it was, so that no number and no escape in it is written otherwise.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tis_ray.data.files import RowFile, file_records
from tis_ray.data.files.arrow_tables import exact_rows, taken_rows
from tis_ray.data.files.json_array import json_texts
from tis_ray.data.files.json_lines import line_texts
from tis_ray.data.hub import hub_records
from tis_ray.data.json_text import STRICT
from tis_ray.data.rows import Side
from tis_ray.data.sources import SourcePart, content_fingerprint, described, parts_of
from tis_ray.errors import InputError

if TYPE_CHECKING:
    from tis_ray.settings import AnySource

Place = tuple[str, int]
"""`file` and `line` of a row."""
JSON_LINES = ".jsonl"


@dataclass(frozen=True)
class Originals:
    """Records as they came, in the order in which they were asked for.

    kind: of the file that they belong in, by the end of its name: that of the tables they came from, or
    `.jsonl`. texts: of `.jsonl`, each an object of JSON on one line. table: of any other kind; cells of
    CSV are text.
    """

    kind: str
    texts: list[str]
    table: pa.Table | None = None

    def __len__(self) -> int:
        return len(self.texts) if self.table is None else int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in the order in which they come."""
        if self.table is not None:
            return list(self.table.column_names)
        return list(dict.fromkeys(name for row in self.rows() for name in row))

    def rows(self) -> list[dict[str, Any]]:
        """Return the records as Python values."""
        return (
            exact_rows(self.table) if self.table is not None else list(map(json.loads, self.texts))
        )

    def take(self, numbers: Sequence[int]) -> Originals:
        """Return these records, by their numbers here, in this order."""
        if self.table is not None:
            return Originals(self.kind, [], self.table.take(pa.array(numbers, pa.int64())))
        return Originals(self.kind, [self.texts[number] for number in numbers])

    def as_table(self) -> pa.Table:
        """Return the records as a table: their own, or with the types that Arrow finds in JSON.

        A column whose values have no common type is JSON text.
        """
        if self.table is not None:
            return self.table
        rows = self.rows()
        return pa.table({name: _array([row.get(name) for row in rows]) for name in self.columns})

    def json_lines(self, beside: str, values: Sequence[object]) -> Iterator[str]:
        """Yield each record as a line of JSON with one more field, the last; the others stay as they are."""
        texts = self.texts if self.table is None else map(json_of_any, self.rows())
        for text, value in zip(texts, values, strict=True):
            fields = text.removesuffix("}").rstrip()
            comma = "" if fields.endswith("{") else ", "
            yield f"{fields}{comma}{json.dumps(beside)}: {json_of_any(value)}}}"


def original_rows(
    source: AnySource,
    places: Sequence[Place],
    *,
    side: Side = "pool",
    fingerprint: str | None = None,
) -> Originals:
    """Return the records at these places, in this order, as one file of their own kind could hold them.

    Tables that differ in their columns, and files of several kinds, come together as JSON lines. Errors
    are those of `original_records`.
    """
    taken = list(_taken(source, places, side, fingerprint))
    order = {place: number for number, place in enumerate(p for part in taken for p in part.places)}
    numbers = [order[place] for place in places]
    tables = [part.table for part in taken if part.table is not None]
    kinds = {part.kind for part in taken}
    alike = all(table.schema.equals(tables[0].schema) for table in tables)
    if len(tables) == len(taken) > 0 and len(kinds) == 1 and alike:
        return Originals(kinds.pop(), [], pa.concat_tables(tables)).take(numbers)
    texts = [text for part in taken for text in part.as_texts()]
    return Originals(JSON_LINES, texts).take(numbers)


def original_records(
    source: AnySource,
    wanted: Collection[Place],
    *,
    side: Side = "pool",
    fingerprint: str | None = None,
) -> dict[Place, object]:
    """Return the records at these places (`file`, `line` of a row) exactly as they came.

    fingerprint: `content_fingerprint` of the source when the rows were read. Raises InputError if it is
    another now, or if a place is not there.
    """
    taken = _taken(source, wanted, side, fingerprint)
    return {
        place: value
        for part in taken
        for place, value in zip(part.places, part.values(), strict=True)
    }


@dataclass(frozen=True)
class _Taken:
    """What was taken from one file: its places, and as much as one of these, in their order.

    texts: of JSON. table: of a table. made: values that no file has.
    """

    kind: str
    places: list[Place]
    texts: list[str] | None = None
    table: pa.Table | None = None
    made: list[object] | None = None

    def values(self) -> Sequence[object]:
        """Return Python values; None for text that is not JSON."""
        if self.table is not None:
            return exact_rows(self.table)
        return self.made if self.made is not None else list(map(_value, self.texts or []))

    def as_texts(self) -> list[str]:
        """Return JSON on one line each."""
        if self.texts is not None:  # inside of a string no line of JSON ends
            return [" ".join(text.split("\n")).replace("\r", " ").strip() for text in self.texts]
        return [json_of_any(value) for value in self.values()]


def json_of_any(value: object) -> str:
    """Return a value as JSON: times and the like as text, bytes in base64, and NaN as null."""
    return json.dumps(_finite(value), ensure_ascii=False, default=_as_json)


def _taken(
    source: AnySource, wanted: Collection[Place], side: Side, fingerprint: str | None
) -> Iterator[_Taken]:
    if fingerprint is not None and content_fingerprint(source, side) != fingerprint:
        raise InputError(
            f"{described(source)}: has changed since its rows were read; restore it, or run again"
        )
    lines: dict[str, set[int]] = {}
    for file, line in wanted:
        lines.setdefault(file, set()).add(line)
    for part in parts_of(source, side):
        named = [(file.name, partial(_of_file, file)) for file in part.files]
        for name, take in [*named, (part.name, partial(_of_part, part, side))]:
            if asked := lines.pop(name, None):
                taken = take(asked)
                if left := asked.difference(line for _, line in taken.places):
                    raise _missing(source, name, left)
                yield taken
    for name, left in lines.items():
        raise _missing(source, name, left)


def _missing(source: AnySource, file: str, lines: Collection[int]) -> InputError:
    return InputError(f"{described(source)}: has no row at {file}, line {min(lines)}")


def _of_file(file: RowFile, wanted: Collection[int]) -> _Taken:
    if file.kind in (".parquet", ".arrow", ".feather", ".ipc"):
        kind = ".parquet" if file.kind == ".parquet" else ".arrow"
        table = taken_rows(file, wanted)
        places = [(file.name, line) for line in sorted(wanted)[: table.num_rows]]
        return _Taken(kind, places, table=table)
    if file.kind in (".csv", ".tsv"):
        rows = {record.line: record.value for record in file_records(file) if record.line in wanted}
        places = [(file.name, line) for line in rows]
        if not all(isinstance(row, dict) for row in rows.values()):
            return _Taken(JSON_LINES, places, made=list(rows.values()))
        return _Taken(file.kind, places, table=pa.Table.from_pylist(list(rows.values())))
    read = json_texts if file.kind == ".json" else line_texts
    found = list(read(file, wanted))
    places = [(file.name, line) for line, _ in found]
    return _Taken(JSON_LINES, places, texts=[text for _, text in found])


def _of_part(part: SourcePart, side: Side, wanted: Collection[int]) -> _Taken:
    """Take from a source that has no files."""
    last, values = max(wanted), {}
    records = part.records(side)
    if part.source.kind == "hub":  # a row is read without its nulls, but came with them
        records = hub_records(part.source)
    for record in records:
        if record.line in wanted:
            values[record.line] = record.value
        if record.line >= last:
            break
    places = [(part.name, line) for line in values]
    return _Taken(JSON_LINES, places, made=list(values.values()))


def _array(values: list[object]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else json_of_any(value) for value in values])


def _value(text: str) -> object:
    try:
        return STRICT.decode(text)
    except (ValueError, RecursionError):
        return None


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _as_json(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
