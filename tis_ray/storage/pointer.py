"""Pointers: a name in one folder that leads to a folder elsewhere.

On one file system it is a relative link, so that shells and other programs follow it. Where there are no links
(a bucket, or a run on a disk with artifacts in a bucket) it is a small file, `NAME.pointer`, with the URI.
"""

from __future__ import annotations

import os
from pathlib import Path

from tis_ray.storage.place import Place, location, place
from tis_ray.storage.reading import whole_file

SUFFIX = ".pointer"


def point(name: Place, to: Place) -> None:
    """Let `name` lead to a folder; a pointer that was there is replaced."""
    if isinstance(name, Path) and isinstance(to, Path):
        name.parent.mkdir(parents=True, exist_ok=True)
        temporary = name.with_name(f".{name.name}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(to, name.parent))
        temporary.replace(name)
        _file_of(name).unlink(missing_ok=True)
        return
    if isinstance(name, Path):
        name.parent.mkdir(parents=True, exist_ok=True)
        if name.is_symlink():
            name.unlink()
    _file_of(name).write_text(location(to), encoding="utf-8")


def pointers(folder: Place) -> list[Place]:
    """Return the names in a folder that lead elsewhere, in order."""
    if not folder.is_dir():
        return []
    names: list[Place] = []
    for entry in folder.iterdir():
        if entry.name.endswith(SUFFIX):
            names.append(entry.with_name(entry.name.removesuffix(SUFFIX)))
        elif isinstance(entry, Path) and entry.is_symlink():
            names.append(entry)
    return sorted(names, key=lambda name: name.name)


def remove_pointer(name: Place) -> None:
    """Take a pointer away; what it leads to stays."""
    if isinstance(name, Path) and name.is_symlink():
        name.unlink()
    if _file_of(name).exists():
        _file_of(name).unlink()


def followed(name: Place) -> Place:
    """Return the folder that a pointer leads to; of anything else, itself. Links are resolved."""
    file = _file_of(name)
    if isinstance(name, Path) and name.exists():
        return name.resolve()
    try:
        return place(whole_file(file).decode().strip())
    except FileNotFoundError:
        return name.resolve()


def _file_of(name: Place) -> Place:
    return name.with_name(name.name + SUFFIX)
