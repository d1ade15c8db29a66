"""Opening files for Arrow, on a disk or in a bucket; of those in a bucket only what is read is fetched."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow.parquet as pq

from tis_ray.storage.local_copy import DIGESTS, cache_folder, sign_of
from tis_ray.storage.place import Place


@contextmanager
def arrow_source(file: Place) -> Iterator[str | IO[bytes]]:
    """Yield what Arrow reads a file from: its path on a disk, or an open file in a bucket.

    Nothing is read ahead: Arrow itself asks for large ranges.
    """
    if isinstance(file, Path):
        yield str(file)
        return
    with file.fs.open(file.path, "rb", cache_type="none") as opened:
        yield opened


@contextmanager
def open_parquet(file: Place) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; of one in a bucket only the footer and the ranges that are read are fetched."""
    with arrow_source(file) as source, pq.ParquetFile(source, pre_buffer=True) as opened:
        yield opened


def content_digest(file: Place) -> bytes:
    """Return the BLAKE2b hash of a file's bytes.

    A file that has not changed since is not read again: on a disk by its size and time in this process, in a
    bucket by what the bucket says of it, which this machine remembers.
    """
    if isinstance(file, Path):
        state = file.stat()
        return _on_disk(file, state.st_size, state.st_mtime_ns)
    known = cache_folder() / DIGESTS / sign_of(str(file), file.fs.info(file.path))
    if known.exists():
        return bytes.fromhex(known.read_text())
    with file.open("rb") as opened:
        digest = hashlib.file_digest(cast(Any, opened), "blake2b").digest()
    known.parent.mkdir(exist_ok=True)
    known.write_text(digest.hex())
    return digest


@functools.lru_cache(maxsize=4096)
def _on_disk(file: Path, size: int, modified_ns: int) -> bytes:
    """Return the hash of a file. Every cell of a study asks for the same gigabytes of weights."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()
