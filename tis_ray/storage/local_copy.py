"""Copies on this machine of files in a bucket, for what reads only from a disk; their size is bounded.

The copy of a file is named by its URI and by what the bucket says of its content (its tag, size and time), so a
file that was changed is fetched anew. Copies lie in TIS_RAY_CACHE (a folder of the user's by default); when
together they have more than TIS_RAY_CACHE_GB (50) the ones that were used longest ago go, but for those of the
last minute. All processes of a machine share them.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tis_ray.errors import InputError
from tis_ray.storage.place import Place

FOLDER, LIMIT = "TIS_RAY_CACHE", "TIS_RAY_CACHE_GB"
DEFAULT_GB = 50.0
DIGESTS = "digests"
"""Folder of what is known of files that were read, but not copied."""
IN_USE = 60.0
"""Seconds for which a copy that was asked for is not removed."""
_SIGNS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "generation",
    "LastModified",
    "mtime",
    "created",
)


def local_file(file: Place) -> Path:
    """Return a file of this machine's disks with the content of `file`: itself, or a copy of the same name.

    Raises FileNotFoundError where there is none.
    """
    if isinstance(file, Path):
        return file
    info = file.fs.info(file.path)
    return _copied(file, {"": info}) / file.name


def local_folder(folder: Place) -> Path:
    """Return a folder of this machine's disks with all that is in `folder`: itself, or a copy of the same name.

    Raises FileNotFoundError where it holds nothing.
    """
    if isinstance(folder, Path):
        return folder
    found = folder.fs.find(folder.path, detail=True)
    if not found:
        raise FileNotFoundError(f"{folder}: no such folder")
    names = {path[len(folder.path.rstrip("/")) + 1 :]: info for path, info in found.items()}
    return _copied(folder, dict(sorted(names.items()))) / folder.name


def cache_folder() -> Path:
    """Return the folder of the copies, which is made if there is none."""
    named = os.environ.get(FOLDER)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named).expanduser() if named else base / "tis_ray"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _limit() -> float:
    """Return how many bytes the copies may have."""
    text = os.environ.get(LIMIT, "")
    try:
        size = float(text) if text else DEFAULT_GB
    except ValueError:
        size = -1.0
    if not size >= 0:
        raise InputError(f"{LIMIT}: found {text!r}; give the size of the cache in gigabytes")
    return size * 1e9


def _copied(origin: Any, files: dict[str, dict[str, Any]]) -> Path:
    """Return the folder that holds a copy, which is made if there is none.

    files: what the bucket says of each file, by its name within `origin`; "" is `origin` itself.
    """
    signs = (f"{name} {_sign(info)}" for name, info in files.items())
    entry = cache_folder() / _digest(str(origin), *signs)
    if entry.is_dir():
        os.utime(entry)  # the copies that were used last stay longest
        return entry
    make_room(sum(int(info.get("size") or 0) for info in files.values()))
    temporary = entry.with_name(f".{entry.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        for name in files:
            to = temporary / origin.name / name if name else temporary / origin.name
            to.parent.mkdir(parents=True, exist_ok=True)
            path = f"{origin.path.rstrip('/')}/{name}" if name else origin.path
            origin.fs.get_file(path, str(to))
        try:
            temporary.rename(entry)
        except OSError:
            if not entry.is_dir():  # or else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return entry


def make_room(needed: int) -> None:
    """Remove the copies that were used longest ago until so many bytes more are within the limit."""
    limit, now = _limit(), time.time()
    entries = []
    for entry in cache_folder().iterdir():
        if entry.name == DIGESTS:
            continue
        try:
            entries.append((entry.stat().st_mtime, _size(entry), entry))
        except FileNotFoundError:  # another process makes room, too
            continue
    total = sum(size for _, size, _ in entries) + needed
    for used, size, entry in sorted(entries):
        if total <= limit or now - used < IN_USE:
            return
        shutil.rmtree(entry, ignore_errors=True)
        total -= size


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def sign_of(named: str, info: dict[str, Any]) -> str:
    """Return a name for what is at a URI now."""
    return _digest(named, _sign(info))


def _sign(info: dict[str, Any]) -> str:
    return " ".join(
        str(info.get(name)) for name in ("size", *_SIGNS) if name in info or name == "size"
    )


def _digest(*words: str) -> str:
    return blake2b("\0".join(words).encode(), digest_size=12).hexdigest()
