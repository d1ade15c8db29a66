"""Writing files that appear whole or not at all: write beside the target, flush to disk, rename."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `path` if the block succeeds.

    The rename is atomic on one file system, so a reader never sees half a file. When the block
    raises, the temporary file is removed and `path` is as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers (numpy) add their own when it is missing.
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.tmp{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a value as indented JSON (UTF-8), atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def write_npy(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write one array as .npy, atomically."""
    with atomic_path(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


def write_csv(path: str | os.PathLike[str], table: pa.Table, delimiter: str = ",") -> None:
    """Write a table as CSV, atomically."""
    with atomic_path(path) as temporary:
        pacsv.write_csv(table, temporary, pacsv.WriteOptions(delimiter=delimiter))


def write_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    """Write lines of UTF-8 text as they come, atomically."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(f"{line}\n" for line in lines)


def write_arrow(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table as an Arrow (Feather) file, atomically."""
    with atomic_path(path) as temporary, pa.ipc.new_file(temporary, table.schema) as file:
        file.write_table(table.unify_dictionaries())


def write_parquet(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table as Parquet, atomically. Equal tables give equal bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
