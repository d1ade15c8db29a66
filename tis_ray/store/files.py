"""Reading files: JSON, arrays, tables, text; one that is missing or damaged is an InputError.

Nothing outside `store/` and `data/` opens a file, so another kind of storage would be read here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray.errors import InputError

AnyPath = str | os.PathLike[str]
TableRow = dict[str, Any]
"""A row of a table as Python values, by column; the schema of the table says which."""


def read_text(path: AnyPath) -> str:
    """Return a UTF-8 file's text. The user's own files are read by it too: errors are the system's."""
    return Path(path).read_text(encoding="utf-8")


def read_lines(path: AnyPath) -> list[str]:
    """Return the lines of a file that may still grow; none where there is no such file."""
    try:
        return read_text(path).splitlines()
    except FileNotFoundError:
        return []


def append_line(path: AnyPath, line: str) -> None:
    """Add a line to a file; make the file if there is none."""
    with appending(path) as file:
        file.write(line + "\n")


def appending(path: AnyPath) -> TextIO:
    """Open a file to add to; make the file if there is none. Whoever asks closes it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path).open("a", encoding="utf-8")


def read_json(path: AnyPath) -> Any:
    """Return what a JSON file of a run holds."""
    with _readable(path):
        return json.loads(read_text(path))


def find_json(path: AnyPath) -> Any | None:
    """Return the same, or None where there is no such file (yet)."""
    return read_json(path) if Path(path).exists() else None


def read_npy(path: AnyPath, mapped: bool = False) -> np.ndarray:
    """Return an array; `mapped` leaves it on disk until it is looked at. Nothing is unpickled."""
    with _readable(path):
        array: np.ndarray = np.load(path, mmap_mode="r" if mapped else None)
    return array


def read_parquet(path: AnyPath, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a table, or these columns of it."""
    # `pq.read_table` would import pandas, and takes four times as long for a small file.
    with _readable(path), pq.ParquetFile(path) as file:
        table: pa.Table = file.read(None if columns is None else list(columns))
        return table if columns is None else table.select(columns)


def read_tables(folder: Path, pattern: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the tables of a folder whose names match, one under the other in the order of names."""
    return pa.concat_tables(read_parquet(path, columns) for path in sorted(folder.glob(pattern)))


def count_rows(folder: Path, pattern: str) -> int:
    """Return the number of rows of these tables; reads none of them."""
    total = 0
    for path in sorted(folder.glob(pattern)):
        with _readable(path):
            total += pq.read_metadata(path).num_rows
    return total


@contextmanager
def _readable(path: AnyPath) -> Iterator[None]:
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


def _advice(path: AnyPath) -> str:
    folder = Path(path).parent.resolve()  # a run's folder has links to artifacts
    return f"remove {folder} and run the study again to make it anew"


def read_ids(value: list[str] | str, field: str) -> set[str]:
    """Return the ids of a list, or of a file with one id per line."""
    if not isinstance(value, str):
        return set(value)
    try:
        lines = read_text(Path(value).expanduser()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{field}: {value} cannot be read ({error}); give a file with one id per line, or a list"
        ) from None
    return {line.strip() for line in lines if line.strip()}
