"""Reading files on a disk or in a bucket, with as few requests as can be.

fsspec's own ways to open a file, or to ask whether there is one, first ask for what is known of it, and list what is
below it where there is none: two or three requests, of which a listing costs as much as ten others.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from tis_ray.storage.local_copy import DIGESTS, cache_folder, sign_of
from tis_ray.storage.place import Place

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def whole_file(file: Place) -> bytes:
    """Return the bytes of a file; of one in a bucket by one request. Raises FileNotFoundError where there is none."""
    if isinstance(file, Path):
        return file.read_bytes()
    # s3fs would ask for the size first, to fetch a large file in parts at once.
    at_once = {"max_concurrency": 1} if "s3" in file.fs.protocol else {}
    content: bytes = file.fs.cat_file(file.path, **at_once)
    return content


def has_file(file: Place) -> bool:
    """Return whether there is a file, by one request; for small files, since that of a bucket is fetched."""
    if isinstance(file, Path):
        return file.exists()
    try:
        whole_file(file)
    except FileNotFoundError:
        return False
    return True


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
    import pyarrow.parquet as pq  # a fifth of a second, which verbs that read no table do not have

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
