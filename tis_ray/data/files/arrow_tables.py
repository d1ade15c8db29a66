"""Parquet and Arrow files: a record a row, which counts from 1 through the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress, repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray.data.files.columns import check_columns
from tis_ray.data.files.opened import readable
from tis_ray.data.files.row_file import Columns, RowFile
from tis_ray.data.rows import Record, RejectReason, UnusableError
from tis_ray.errors import InputError
from tis_ray.storage import Place, local_file, open_parquet

_BATCH = 1024
_MAGIC = b"ARROW1"
_UNREADABLE = (ValueError, OverflowError, TypeError, KeyError, pa.ArrowException)


def parquet_records(
    row_file: RowFile, columns: Columns | None, groups: Sequence[int] | None = None
) -> Generator[Record, None, int]:
    """Yield the rows of a Parquet file; None for all columns, exactly as they are. Return their number.

    groups: row groups that are read, of which rows are counted from 1; None for all. Raises InputError
    where no column holds rows, or where two have one name.
    """
    path = row_file.path
    with readable(path), open_parquet(path) as file:
        read, unread = _chosen(path, file.schema_arrow, columns)
        # The footer may say that a column has no nulls, but to ask a damaged one ends the process.
        batches = file.iter_batches(batch_size=_BATCH, row_groups=groups, columns=read + unread)
        return (yield from _records(row_file, batches, read, exact=columns is None))


def arrow_records(row_file: RowFile, columns: Columns | None) -> Iterator[Record]:
    """Yield the rows of an Arrow file or stream, as Feather and `save_to_disk` write them."""
    path = row_file.path
    with _arrow_batches(path) as (schema, whole):
        read, unread = _chosen(path, schema, columns)
        batches = (
            batch.select(read + unread).slice(start, _BATCH)
            for batch in whole
            for start in range(0, batch.num_rows, _BATCH)
        )
        yield from _records(row_file, batches, read, exact=columns is None)


@contextmanager
def _arrow_batches(path: Place) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    with readable(path), pa.memory_map(str(local_file(path))) as source:
        is_file = source.read(len(_MAGIC)) == _MAGIC
        source.seek(0)
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        whole = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        yield reader.schema, map(_validated, whole)


def taken_rows(row_file: RowFile, wanted: Collection[int]) -> pa.Table:
    """Return these rows, counted from 1, in the order of the file, with all columns as they are.

    Holds a batch of the file, and what was taken.
    """
    path, places = row_file.path, np.array(sorted(wanted)) - 1
    if row_file.kind == ".parquet":
        with readable(path), open_parquet(path) as file:
            check_columns(path, file.schema_arrow.names, None)
            return _taken(file.schema_arrow, _group_batches(file, places), places)
    with _arrow_batches(path) as (schema, batches):
        check_columns(path, schema.names, None)
        return _taken(schema, _numbered(batches), places)


def exact_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return a table's rows as Python values; what Python cannot hold, as Arrow writes it."""
    names = table.column_names
    columns = [_exact_values(name, table[name].combine_chunks()) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


_Started = Iterator[tuple[int, pa.RecordBatch]]
"""Batches, each with the number of the rows before it."""


def _group_batches(file: pq.ParquetFile, places: np.ndarray) -> _Started:
    """Yield the batches of those row groups that hold one of the places."""
    start = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if np.searchsorted(places, start) < np.searchsorted(places, start + rows):
            begin = start
            for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group]):
                yield begin, batch
                begin += batch.num_rows
        start += rows


def _numbered(batches: Iterator[pa.RecordBatch]) -> _Started:
    start = 0
    for batch in batches:
        yield start, batch
        start += batch.num_rows


def _taken(schema: pa.Schema, batches: _Started, places: np.ndarray) -> pa.Table:
    parts = []
    for start, batch in batches:
        low, high = np.searchsorted(places, [start, start + batch.num_rows])
        if low < high:
            parts.append(batch.take(pa.array(places[low:high] - start)))
        if high == len(places):
            break
    return pa.Table.from_batches(parts, schema)


def _validated(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose offsets stay inside its buffers; ArrowInvalid for one that is damaged.

    Arrow reads these files without a look at them, and would run out of memory that is its own.
    """
    batch.validate(full=True)
    return batch


def without_nulls(value: Any) -> Any:
    """Return a nested value without fields that are null: tables fill what one row lacks with null."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(inner) for inner in value]
    return value


def _chosen(path: Place, schema: pa.Schema, columns: Columns | None) -> tuple[list[str], list[str]]:
    """Return which columns are read, and which others may hold anything."""
    check_columns(path, schema.names, columns)
    if columns is None:
        return schema.names, []
    read = [name for name in schema.names if name in columns.known]
    others = (field for field in schema if field.name not in columns.known)
    return read, [field.name for field in others if not pa.types.is_null(field.type)]


def _records(
    row_file: RowFile,
    batches: Iterator[pa.RecordBatch],
    read: Sequence[str],
    exact: bool,
) -> Generator[Record, None, int]:
    """Yield the rows of batches, whose other columns than those `read` are asked for nulls alone.

    Return their number.
    """
    number = 0
    names = list(read)
    for batch in batches:
        columns = [batch.column(name) for name in names]
        if not exact:
            for name, column in zip(names, columns, strict=True):
                _check_fields(row_file.path, name, column.type)
        convert = _exact_values if exact else _values
        values_of = [convert(name, column) for name, column in zip(names, columns, strict=True)]
        unread = _held(batch, names)
        for values, others in zip(zip(*values_of, strict=True), unread, strict=True):
            number += 1
            bad = next((value for value in values if isinstance(value, UnusableError)), None)
            value = None if bad else dict(zip(names, values, strict=True))
            yield row_file.record(number, value, bad, others)
    return number


def _held(batch: pa.RecordBatch, read: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield, for each row, the columns that are not read and hold something there."""
    asked = [name for name in batch.schema.names if name not in read]
    if not asked:
        return repeat((), batch.num_rows)
    valid = (batch.column(name).is_valid().to_pylist() for name in asked)
    return (tuple(compress(asked, row)) for row in zip(*valid, strict=True))


def _values(name: str, column: pa.Array) -> list[Any]:
    """Return a column's values; times as text, which Python's own may not reach.

    What cannot be read is an UnusableError in its place.
    """
    if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type):
        column = column.cast(pa.string())

    def refused(scalar: pa.Scalar, error: Exception) -> UnusableError:
        return UnusableError(RejectReason.WRONG_TYPE, f"{name}: cannot be read ({error})")

    values = _as_python(column, refused)
    return list(map(without_nulls, values)) if pa.types.is_nested(column.type) else values


def _exact_values(name: str, column: pa.Array) -> list[Any]:
    """Return a column's values as they are; what Python cannot hold, as Arrow writes it."""
    return _as_python(column, lambda scalar, error: str(scalar))


def _as_python(column: pa.Array, refused: Callable[[pa.Scalar, Exception], object]) -> list[Any]:
    # The conversion of maps to objects makes that of everything else five times slower.
    options = {"maps_as_pydicts": "strict"} if _holds_map(column.type) else {}
    try:
        return column.to_pylist(**options)
    except _UNREADABLE:
        values: list[Any] = []
    for scalar in column:
        try:
            values.append(scalar.as_py(**options))
        except _UNREADABLE as error:
            values.append(refused(scalar, error))
    return values


def _holds_map(kind: pa.DataType) -> bool:
    inside = (kind.field(place).type for place in range(kind.num_fields))
    return pa.types.is_map(kind) or any(map(_holds_map, inside))


def _check_fields(path: Place, name: str, kind: pa.DataType) -> None:
    """Raise InputError if a struct has two fields of one name, at any depth."""
    fields = [kind.field(place) for place in range(kind.num_fields)]
    names = [field.name for field in fields]
    if pa.types.is_struct(kind) and len(set(names)) < len(names):
        twice = next(field for field in names if names.count(field) > 1)
        raise InputError(
            f"{path}: column {name!r} has two fields named {twice!r}; rename or drop one"
        )
    for field in fields:
        _check_fields(path, name, field.type)
