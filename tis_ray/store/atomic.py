"""Writing files that appear whole or not at all.

On a disk: write beside the target, flush, rename. In a bucket an object appears whole by itself: it is written
on this machine first, and put there in one go. numpy and Arrow are imported by what needs them: they take
longer than a verb that writes only JSON and text.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tis_ray.storage import AnyPlace, Place, place

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass
class Written:
    """How many bytes of files this process has written, for whoever counts work."""

    bytes: int = 0


written = Written()


@contextmanager
def atomic_path(path: AnyPlace) -> Iterator[Path]:
    """Yield a temporary path on this machine, whose file becomes `path` if the block succeeds.

    On a disk it lies in the target's folder and is renamed, which is atomic on one file system, so a
    reader never sees half a file. When the block raises, it is removed and `path` is as it was.
    """
    target = place(path)
    if not isinstance(target, Path):
        with tempfile.TemporaryDirectory(prefix="tis_ray-") as folder:
            temporary = Path(folder) / target.name
            yield temporary
            written.bytes += temporary.stat().st_size
            target.fs.put_file(str(temporary), target.path)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers (numpy) add their own when it is missing.
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.tmp{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        written.bytes += temporary.stat().st_size
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_folder(folder: Place) -> Iterator[Path]:
    """Yield a folder on this machine whose files are in `folder` when the block ends: itself, on a disk.

    Files of earlier blocks stay. Nothing is written to a bucket when the block raises.
    """
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tis_ray-") as temporary:
        here = Path(temporary) / folder.name
        here.mkdir()
        yield here
        for file in sorted(path for path in here.rglob("*") if path.is_file()):
            folder.fs.put_file(str(file), (folder / file.relative_to(here).as_posix()).path)


def write_bytes(path: AnyPlace, content: bytes) -> None:
    """Write bytes atomically."""
    target = place(path)
    if not isinstance(target, Path):
        written.bytes += len(content)
        target.write_bytes(content)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_new(path: AnyPlace, content: bytes) -> bool:
    """Write a file that is not there yet; return False, and leave the one that is, where there is one.

    Of several who write it at once one does: the one that makes the file on a disk, by a condition of the put in
    a bucket. On a disk a writer that is killed may leave a part of it: something else has to say that it is whole.
    """
    target = place(path)
    try:
        if not isinstance(target, Path):
            target.fs.pipe_file(target.path, content, mode="create")
            return True
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    return True


def write_text(path: AnyPlace, text: str) -> None:
    """Write a text as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: AnyPlace, value: object) -> None:
    """Write a value as indented JSON (UTF-8), atomically."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """Return a value as indented JSON (UTF-8)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def write_npy(path: AnyPlace, array: np.ndarray) -> None:
    """Write one array as .npy, atomically."""
    import numpy as np

    with atomic_path(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


def write_csv(path: AnyPlace, table: pa.Table, delimiter: str = ",") -> None:
    """Write a table as CSV, atomically."""
    import pyarrow.csv as pacsv

    with atomic_path(path) as temporary:
        pacsv.write_csv(table, temporary, pacsv.WriteOptions(delimiter=delimiter))


def write_lines(path: AnyPlace, lines: Iterable[str]) -> None:
    """Write lines of UTF-8 text as they come, atomically."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(f"{line}\n" for line in lines)


def write_arrow(path: AnyPlace, table: pa.Table) -> None:
    """Write a table as an Arrow (Feather) file, atomically."""
    import pyarrow as pa

    with atomic_path(path) as temporary, pa.ipc.new_file(temporary, table.schema) as file:
        file.write_table(table.unify_dictionaries())


@contextmanager
def parquet_groups(path: AnyPlace, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that adds a table to a Parquet file, as a row group; the file is there when the block ends."""
    import pyarrow.parquet as pq

    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        yield writer.write_table


def write_parquet(path: AnyPlace, table: pa.Table, group: int | None = None) -> None:
    """Write a table as Parquet, atomically, in row groups of so many rows. Equal tables give equal bytes."""
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=group)
