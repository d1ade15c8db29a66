"""Hashes of values, files and folders. What an artifact's is made of: `tis_ray.store.artifact`."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces; NaN, sets and objects are refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def fingerprint(value: object) -> str:
    """Return 16 hexadecimal digits of BLAKE2b over the canonical JSON of `value`.

    Integers and equal floats differ in JSON (1 and 1.0), so callers pass validated config values.
    """
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=8).hexdigest()


def folder_digest(
    folder: str | Path, pattern: str = "**/*", ignored: tuple[str, ...] = (".md",)
) -> str:
    """Return the hash of the relative names and the bytes of the files that match `pattern`.

    Files whose names end in one of `ignored` are left out, and so are hidden ones.
    """
    folder = Path(folder)
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.glob(pattern) if path.is_file()):
        name = path.relative_to(folder)
        if path.suffix in ignored or any(part.startswith(".") for part in name.parts):
            continue
        state = path.stat()
        digest.update(name.as_posix().encode() + b"\0")
        digest.update(_file_digest(path, state.st_size, state.st_mtime_ns))
    return digest.hexdigest()


def file_digest(file: str | Path) -> str:
    """Return the hash of a file's bytes."""
    path = Path(file)
    state = path.stat()
    return _file_digest(path, state.st_size, state.st_mtime_ns).hex()[:32]


@functools.lru_cache(maxsize=4096)
def _file_digest(path: Path, size: int, modified_ns: int) -> bytes:
    """Return the hash of a file. Every cell of a study asks for the same gigabytes of weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
