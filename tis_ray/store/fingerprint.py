"""Hashes of values, files and folders. What an artifact's is made of: `tis_ray.store.artifact`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tis_ray.storage import Place, content_digest, place, relative_to


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
    folder: str | Path | Place, pattern: str = "**/*", ignored: tuple[str, ...] = (".md",)
) -> str:
    """Return the hash of the relative names and the bytes of the files that match `pattern`.

    Files whose names end in one of `ignored` are left out, and so are hidden ones.
    """
    folder = place(folder)
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.glob(pattern) if path.is_file()):
        name = relative_to(path, folder)
        if path.suffix in ignored or any(part.startswith(".") for part in name.split("/")):
            continue
        digest.update(name.encode() + b"\0")
        digest.update(content_digest(path))
    return digest.hexdigest()


def file_digest(file: str | Path | Place) -> str:
    """Return the hash of a file's bytes."""
    return content_digest(place(file)).hex()[:32]
