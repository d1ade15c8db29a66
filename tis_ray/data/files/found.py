"""Which files a path, a folder or a pattern stands for, in which order, and what their names say.

- A folder stands for all files of rows in it and its subfolders, sorted by path, whatever their kinds.
  Names that start with `.` or `_` and the notes that data sets carry are ignored; of a folder that
  `datasets` has saved, the files that its `state.json` names are read, in that order.
- A folder or pattern that holds several splits (`train-00000-of-00002.parquet`, `test.jsonl`,
  `validation/...`) is refused unless one is asked for.
- Links are followed; a folder that two paths lead to is read once.
- `key=value` folders give their rows the field `key`.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePath
from urllib.parse import unquote

from tis_ray.data.files.opened import PACKED
from tis_ray.data.files.row_file import KINDS, RowFile, kind_of, label_of_file, stem_of
from tis_ray.data.files.splits import json_object, of_split, saved_splits, split_of
from tis_ray.errors import InputError
from tis_ray.storage import Place, all_files, listed_files, place, relative_to

_NOTES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_WEB = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2")
_PARTITION = re.compile(r"([A-Za-z_]\w*)=(.*)")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_EXPECTED = f"{', '.join(KINDS)} (text also with {', '.join(PACKED)})"


@dataclass(frozen=True)
class Found:
    """The files that a path stands for, and the folder that their names are told from.

    other: files of a folder that hold no rows.
    """

    root: Place
    paths: list[Place]
    folder: bool = False
    other: int = 0


def found(path: str) -> Found:
    """Return the files that a path stands for. Raises InputError where there are none."""
    with _reachable(path):
        root = place(path)
        if not isinstance(root, Path) and glob.has_magic(path):
            return _in_bucket(path, root)
        if root.is_dir():
            return _in_folder(path, root)
        if root.is_file():
            files, root = [root], root.parent
        elif root.exists():
            raise InputError(f"{path}: is neither a file nor a folder; give one of them")
        elif glob.has_magic(str(root)):
            matches = glob.glob(str(root), recursive=True)  # noqa: PTH207
            files = [*sorted(file for file in map(Path, matches) if file.is_file())]
            root = _fixed_part(Path(str(root)))
            if not files:
                raise InputError(f"{path}: no file matches this pattern; check the path")
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
    for file in files:
        _check_kind(file)
    return Found(root, files)


def named_files(
    found: Found, root: Place | None, split: str | None, label: str | None
) -> list[RowFile]:
    """Return found files under their names within `root`; of several splits, the one asked for.

    label: of rows that have none, in place of the file's own. Raises InputError where a split is
    missing, or not asked for.
    """
    dictionary = saved_splits(found.root) if found.folder else ()
    files = []
    for path in found.paths:
        name = str(path) if root is None else relative_to(_plain(path), _plain(root))
        if not _is_utf8(name):
            raise InputError(f"{name!r}: the name is not UTF-8; rename the file")
        files.append(
            RowFile(
                path,
                name,
                label or label_of_file(path),
                _partition(path, found.root),
                split_of(PurePath(relative_to(path, found.root)), dictionary),
            )
        )
    return of_split(files, found.root, split)


def common_root(founds: Iterable[Found]) -> Place | None:
    """Return the folder that all of them are in, from which files of several sources are named.

    None where there is none: on disks and in buckets, or in several buckets; each file has its whole name then.
    """
    roots = [_plain(found.root) for found in founds]
    if all(isinstance(root, Path) for root in roots):
        return Path(os.path.commonpath([str(root) for root in roots]))
    parts = zip(*(str(root).split("/") for root in roots), strict=False)
    shared = [same[0] for same in takewhile(lambda each: len({*each}) == 1, parts)]
    return place("/".join(shared)) if len(shared) > 2 and shared[2] else None


def read_twice(files: Iterable[RowFile]) -> str | None:
    """Return the name of a file that is there twice, by whatever path; None if there is none."""
    seen: set[Place] = set()
    for file in files:
        # Of the folder alone: a snapshot of the hub links two files that are equal to one.
        place = file.path.parent.resolve() / file.path.name
        if place in seen:
            return file.name
        seen.add(place)
    return None


def _plain(path: Place) -> Place:
    """Return an absolute path without `..`; a URI as it is."""
    if not isinstance(path, Path):
        return path
    return Path(os.path.abspath(path))  # noqa: PTH100


def short_names(files: Sequence[RowFile]) -> dict[str, str]:
    """Return a short name of each file: its stem, or where files share one its path without the kind."""
    stems = [stem_of(file.path) for file in files]
    return {
        file.name: stem if stems.count(stem) == 1 else str(PurePath(file.name).with_name(stem))
        for file, stem in zip(files, stems, strict=True)
    }


def _in_folder(path: str, root: Place) -> Found:
    files: list[tuple[tuple[str, ...], Place]] = []
    other, web = 0, None
    for folder, inside in _walk(root):
        saved = _saved_files(folder) if "state.json" in inside else None
        for name in inside:
            file = folder / name
            if name in _NOTES:
                continue
            linked = isinstance(file, Path) and file.is_symlink()
            if linked and not file.exists() and kind_of(file) is not None:
                raise InputError(
                    f"{file}: links to a file that is not there; fetch it, or remove it"
                )
            if kind_of(file) is None or (isinstance(file, Path) and not file.is_file()):
                other += 1
                web = web or (name if name.lower().endswith(_WEB) else None)
            elif saved is None or kind_of(file) != ".arrow":
                files.append(((*file.parts,), file))
        for number, file in enumerate(saved or ()):
            files.append(((*folder.parts, f"{number:09d}"), file))
    if not files:
        if web is not None:
            raise _webdataset(f"{path}/{web}")
        raise InputError(f"{path}: the folder holds no rows; expected {_EXPECTED} files")
    return Found(root, [file for _, file in sorted(files)], folder=True, other=other)


def _in_bucket(path: str, pattern: Place) -> Found:
    """Return the files in a bucket that match a pattern."""
    files = [file for file in listed_files(pattern) if kind_of(file) is not None]
    if not files:
        raise InputError(f"{path}: no file matches this pattern; check the URI")
    fixed = []
    for part in str(pattern).split("/")[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Found(place("/".join(fixed)), files)


def _walk(root: Place) -> Iterator[tuple[Place, list[str]]]:
    """Yield each folder with the names of the files in it; hidden ones are left out."""
    if isinstance(root, Path):
        yield from _walk_disk(root)
        return
    inside: dict[tuple[str, ...], list[str]] = {}
    for file in all_files(root):
        *folders, name = relative_to(file, root).split("/")
        if not any(part.startswith((".", "_")) for part in (*folders, name)):
            inside.setdefault(tuple(folders), []).append(name)
    for parts in sorted(inside):
        yield root.joinpath(*parts), sorted(inside[parts])


def _walk_disk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    def fail(error: OSError) -> None:
        raise error  # a folder that cannot be read must not look like an empty one

    def is_new(folder: Path) -> bool:
        """A link is followed unless its files are read anyway, or it leads round in a circle."""
        if not folder.is_symlink():
            return True
        target = folder.resolve()
        known = target in linked or target in (inside, *inside.parents) or inside in target.parents
        linked.add(target)
        return not known

    inside, linked = root.resolve(), set[Path]()
    for at, folders, names in os.walk(root, onerror=fail, followlinks=True):
        shown = sorted(name for name in folders if not name.startswith((".", "_")))
        folders[:] = [name for name in shown if is_new(Path(at, name))]
        yield Path(at), sorted(name for name in names if not name.startswith((".", "_")))


def _saved_files(folder: Place) -> list[Place] | None:
    """Return the files that `state.json` of a saved data set names; None if it is something else."""
    state = json_object(folder / "state.json")
    entries = state.get("_data_files")
    if not isinstance(entries, list):
        return None
    if state.get("_indices_data_files"):
        raise InputError(f"{folder}: its rows are chosen by an indices file; save it flattened")
    names = [str(entry.get("filename")) for entry in entries if isinstance(entry, dict)]
    files: list[Place] = [folder / name for name in names]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: is named in state.json, but not there; save it again")
    return files


def _partition(path: Place, root: Place) -> dict[str, str]:
    """Return what `key=value` folders say: those within the root, and those that lead to it."""
    parts = relative_to(path, root).split("/")[:-1]
    for part in reversed(root.parts):
        if not _PARTITION.fullmatch(part):
            break
        parts.insert(0, part)
    matches = filter(None, map(_PARTITION.fullmatch, parts))
    values = {match[1]: unquote(match[2]) for match in matches}
    return {key: value for key, value in values.items() if value not in ("", _NO_VALUE)}


def _fixed_part(pattern: Path) -> Path:
    """Return the folders of a pattern before its first star."""
    fixed: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _check_kind(file: Place) -> None:
    if kind_of(file) is None:
        if file.name.lower().endswith(_WEB):
            raise _webdataset(str(file))
        raise InputError(f"{file}: unknown file type; expected {_EXPECTED}")


def _webdataset(path: str) -> InputError:
    return InputError(
        f"{path}: is a WebDataset archive, which is not read; unpack it or write JSONL"
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _reachable(path: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # a long name, an unknown user, a NUL
        reason = getattr(error, "strerror", None) or error
        where = str(getattr(error, "filename", None) or path)  # it may be a folder within
        shown = where if len(where) <= 100 else f"{where[:100]}..."
        raise InputError(f"{shown!r}: cannot be reached ({reason}); check the path") from None
