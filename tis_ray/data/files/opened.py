"""Opening of files: packed ones are unpacked as they are read, and trouble is one line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from tis_ray.errors import InputError
from tis_ray.storage import Place

PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""The packings that are read, by the end of a file's name."""


def opened(path: Place) -> IO[bytes]:
    """Open a file for reading in order, unpacked if its name says that it is packed."""
    codec = PACKED.get(path.suffix.lower())
    source = str(path) if isinstance(path, Path) else path.open("rb")
    stream = pa.input_stream(source, compression=codec)
    return cast("IO[bytes]", io.BufferedReader(stream, 1 << 16))


@contextmanager
def readable(path: Place) -> Iterator[None]:
    """Turn what can go wrong with a whole file, while it is read, into an InputError."""
    try:
        yield
    except UnicodeDecodeError:
        raise InputError(f"{path}: contains text that is not UTF-8; save it as UTF-8") from None
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read ({reason[:200]}); write or fetch it again"
        ) from error
