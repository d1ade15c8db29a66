"""Reading files: JSON, arrays, tables, text; one that is missing or damaged is an InputError.

Files are on a disk or in a bucket (`tis_ray.storage`). Of a table in a bucket only the ranges that are asked for
are fetched; what can only be read from a disk is copied first. numpy and Arrow are imported by what needs them: they take longer than a verb
that reads only JSON and text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from tis_ray.errors import InputError
from tis_ray.storage import (
    AnyPlace,
    Place,
    is_remote,
    listed,
    local_file,
    open_parquet,
    place,
    whole_file,
)
from tis_ray.store.atomic import write_text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

TableRow = dict[str, Any]
"""A row of a table as Python values, by column; the schema of the table says which."""


def read_text(path: AnyPlace) -> str:
    """Return a UTF-8 file's text. The user's own files are read by it too: errors are the system's.

    One in a bucket is read in one request: it may be replaced at any time, between two of one reader too.
    """
    return whole_file(place(path)).decode()


def read_lines(path: AnyPlace) -> list[str]:
    """Return the lines of a file that may still grow; none where there is no such file."""
    try:
        return read_text(path).splitlines()
    except FileNotFoundError:
        return []


def append_line(path: AnyPlace, line: str) -> None:
    """Add a line to a file; make the file if there is none.

    In a bucket, where nothing can be added to an object, it is written anew: for files of few lines that have
    one writer.
    """
    file = place(path)
    if not isinstance(file, Path):
        write_text(file, "".join(f"{each}\n" for each in [*read_lines(file), line]))
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(line + "\n")


@contextmanager
def end_of(path: AnyPlace) -> Iterator[IO[bytes]]:
    """Yield the end of a file, to write on; of one in a bucket it is added when the block ends."""
    file = place(path)
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as end:
            yield end
        return
    with TemporaryFile() as end:
        try:
            yield end
        finally:
            end.seek(0)
            if text := end.read().decode(errors="replace").rstrip("\n"):
                append_line(file, text)


def read_json(path: AnyPlace) -> Any:
    """Return what a JSON file of a run holds."""
    with _readable(path):
        return json.loads(read_text(path))


def find_json(path: AnyPlace) -> Any | None:
    """Return the same, or None where there is no such file (yet)."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        return None
    with _readable(path):
        return json.loads(text)


def read_npy(path: AnyPlace, mapped: bool = False) -> np.ndarray:
    """Return an array; `mapped` leaves it on disk until it is looked at. Nothing is unpickled."""
    import numpy as np

    with _readable(path):
        array: np.ndarray = np.load(local_file(place(path)), mmap_mode="r" if mapped else None)
    return array


def read_parquet(path: AnyPlace, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a table, or these columns of it."""
    # `pq.read_table` would import pandas, and takes four times as long for a small file.
    # Of a file in a bucket that is read whole, one request fetches what its parts would take three for.
    whole = columns is None and is_remote(place(path))
    with _readable(path), _opened(place(path), whole) as file:
        table: pa.Table = file.read(None if columns is None else list(columns))
        return table if columns is None else table.select(columns)


def _opened(path: Place, whole: bool) -> AbstractContextManager[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(whole_file(path))) if whole else open_parquet(path)


def read_tables(folder: Place, pattern: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the tables of a folder whose names match, one under the other in the order of names."""
    import pyarrow as pa

    return pa.concat_tables(read_parquet(path, columns) for path in listed(folder, pattern))


def footer_of(path: AnyPlace) -> tuple[int, dict[bytes, bytes]]:
    """Return the number of rows of a table, and what was noted with it; reads none of them."""
    with _readable(path), open_parquet(place(path)) as file:
        return int(file.metadata.num_rows), dict(file.schema_arrow.metadata or {})


@contextmanager
def _readable(path: AnyPlace) -> Iterator[None]:
    """Raise InputError, which says what to do, for a file that is missing, cut short or of another kind."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_advice(path)}") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its owner") from None
    except (OSError, EOFError, ValueError, KeyError) as error:  # of which JSON's and Arrow's are
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason}); {_advice(path)}") from None


def _advice(path: AnyPlace) -> str:
    folder = place(path).parent.resolve()  # a run's folder has links to artifacts
    return f"remove {folder} and run the study again to make it anew"


def read_ids(value: list[str] | str, field: str) -> set[str]:
    """Return the ids of a list, or of a file with one id per line."""
    if not isinstance(value, str):
        return set(value)
    try:
        lines = read_text(value).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{field}: {value} cannot be read ({error}); give a file with one id per line, or a list"
        ) from None
    return {line.strip() for line in lines if line.strip()}
