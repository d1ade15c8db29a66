"""A place of files: a `pathlib.Path`, or the same for a URI (`universal_pathlib`, over fsspec).

What is written in a config (`/data/pool`, `file:///data/pool`, `s3://bucket/pool`) becomes a place here, and
only here. Credentials come from the environment or the cloud's own chain: a URI that carries some is refused,
since places are shown, stored and hashed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from tis_ray.errors import InputError
from tis_ray.storage.secret import shown_uri

if TYPE_CHECKING:
    from upath import UPath

    Place: TypeAlias = Path | UPath
else:
    Place = Path
    """A path on this machine's disks, or in a bucket."""
AnyPlace: TypeAlias = "str | os.PathLike[str] | Place"
"""What names a file: its path or URI as text, or its place."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_BEGINNING, _ENDING = re.compile(r"[^*?\[]*"), re.compile(r"\.[a-z]+$")
"""Of a pattern: what stands before the first of its signs, and the ending of a file."""
ASKED_FOR = 20
"""Files in a bucket that are asked for one by one: a listing may hold much else."""
_NEEDS = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "abfs": ("adlfs", "azure"),
    "abfss": ("adlfs", "azure"),
    "az": ("adlfs", "azure"),
    "hf": ("huggingface_hub", ""),
}
"""Of a scheme, the package that reads it, and the extra of ours that brings it."""


def place(named: AnyPlace) -> Place:
    """Return the place that a text names; a place is returned as it is.

    Raises InputError for a URI that nothing here can read, or that carries a user or a password.
    """
    if not isinstance(named, str | os.PathLike):
        if not hasattr(named, "fs"):
            raise TypeError(f"{type(named).__name__} names no place")
        return named
    text = os.fspath(named)
    scheme = scheme_of(text)
    if scheme is None:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    if scheme == "file":
        return Path(unquote(urlsplit(text).path))
    return _remote(text, scheme)


def scheme_of(text: str) -> str | None:
    """Return the scheme of a URI in small letters; None for what is none."""
    match = _URI.match(text)
    return match[1].lower() if match else None


def is_remote(place: AnyPlace) -> bool:
    """Return whether a place is none of this machine's disks."""
    if isinstance(place, str):
        return scheme_of(place) not in (None, "file")
    return not isinstance(place, os.PathLike)


def pace(place: AnyPlace, seconds: float, requests: int = 1) -> float:
    """Return the seconds between two looks at a place, or two writes: in a bucket each is a request that costs.

    requests: how many one look makes; they are not more than two a second.
    """
    return max(seconds, 5.0, requests / 2) if is_remote(place) else seconds


def location(named: AnyPlace) -> str:
    """Return the absolute path or the URI of a place, by which another process finds it."""
    found = place(named)
    return str(found.absolute()) if isinstance(found, Path) else str(found).rstrip("/")


def relative_to(inner: Place, outer: Place) -> str:
    """Return the name of a place within another, with slashes."""
    if isinstance(inner, Path) and isinstance(outer, Path):
        return inner.relative_to(outer).as_posix()
    return str(inner).removeprefix(str(outer).rstrip("/") + "/")


def listed(folder: Place, pattern: str) -> list[Place]:
    """Return the files and folders in a folder whose names match, in order.

    Files with an ending, in a bucket, by one listing of what begins alike; fsspec's own way takes four.
    """
    found: list[Place]
    if isinstance(folder, Path) or "/" in pattern or not _ENDING.search(pattern):
        found = [*folder.glob(pattern)]
    else:
        paths = folder.fs.find(folder.path, prefix=_BEGINNING.match(pattern)[0])  # type: ignore[index]
        found = [
            _beside(folder, path)
            for path in paths
            if path.rpartition("/")[0].strip("/") == folder.path.strip("/")
            and fnmatchcase(path.rpartition("/")[2], pattern)
        ]
    return sorted(found, key=str)


def all_files(folder: Place) -> list[Place]:
    """Return all files in a folder and below it, in order of their names; one listing of a bucket."""
    if isinstance(folder, Path):
        return [*sorted(path for path in folder.rglob("*") if path.is_file())]
    return [_beside(folder, path) for path in sorted(folder.fs.find(folder.path))]


def listed_files(pattern: Place) -> list[Place]:
    """Return the files in a bucket that match a pattern, in order of their names."""
    assert not isinstance(pattern, Path)
    found = pattern.fs.glob(pattern.path, detail=True)
    paths = sorted(path for path, info in found.items() if info["type"] == "file")
    return [_beside(pattern, path) for path in paths]


def _beside(known: UPath, path: str) -> Place:
    return place(str(known.fs.unstrip_protocol(path)))


def file_sizes(files: Sequence[Place]) -> Iterator[int]:
    """Yield how many bytes files have; of many in a bucket by one listing of what their names begin with.

    Raises OSError at one that is missing.
    """
    remote = [file for file in files if not isinstance(file, Path)]
    known: dict[str, int] = {}
    if len(remote) > ASKED_FOR:
        begin = os.path.commonprefix([file.path for file in remote])  # noqa: RUF071  # by letters
        folder, _, name = begin.rpartition("/")
        found = remote[0].fs.find(folder, prefix=name, detail=True)
        known = {path: int(about["size"]) for path, about in found.items()}
    for file in files:
        path = None if isinstance(file, Path) else file.path
        yield known[path] if path in known else file.stat().st_size


def folder_size(folder: Place) -> int:
    """Return how many bytes the files in a folder and below it have."""
    if isinstance(folder, Path):
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return int(folder.fs.du(folder.path))


def remove_folder(folder: Place) -> None:
    """Remove a folder with all that is in it, if it is there."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        folder.fs.rm(folder.path, recursive=True)


def _remote(text: str, scheme: str) -> Place:
    module, extra = _NEEDS.get(scheme, ("", ""))
    shown = shown_uri(_without_user(text))
    if shown != text:
        raise InputError(
            f"{shown}: carries a user or a password, which would be shown and stored with it; leave them out, "
            "and set them in the environment or the cloud's own files"
        )
    if module and find_spec(module) is None:
        install = f"'tis_ray[{extra}]'" if extra else module
        raise InputError(f"{text}: needs the `{module}` package; pip install {install}")
    from upath import UPath  # who has only disks waits for none of it

    try:
        found = UPath(text.rstrip("/"), **_OPTIONS.get(scheme, {}))
        found.fs  # noqa: B018  # an unknown scheme is found out here
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{text}: cannot be reached ({reason}); check the URI") from None
    return found


_FRESH: dict[str, Any] = {"use_listings_cache": False}
# A listing that is kept hides what other processes have written since.
_OPTIONS: dict[str, dict[str, Any]] = dict.fromkeys(
    ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"), _FRESH
)


def _without_user(text: str) -> str:
    """Return a URI without what stands before its host, such as a user and a password."""
    scheme = scheme_of(text)
    if scheme is None or scheme in ("abfs", "abfss", "hf"):  # whose containers stand before an @
        return text
    begin = len(scheme) + 3
    authority, slash, rest = text[begin:].partition("/")
    return f"{text[:begin]}{authority.rpartition('@')[2]}{slash}{rest}"
