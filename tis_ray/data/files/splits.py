"""The splits of a folder: which part of a data set (train, test, ...) the name of a file says it is.

A name says so as its first or last word (`train.jsonl`, `mine_test.csv`), by its folder, or as what its
shards are called (`train_sft-00000-of-00002.parquet`); in a folder that `datasets` has saved, a file of
JSON names the splits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import PurePath

from tis_ray.data.files.opened import readable
from tis_ray.data.files.row_file import RowFile, stem_of
from tis_ray.errors import InputError
from tis_ray.storage import Place

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SHARD = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]{16})?$")


def of_split(files: list[RowFile], root: Place, split: str | None) -> list[RowFile]:
    """Return the files of the split that is asked for; without one, all of them.

    Raises InputError if there is no such split, or if there are several and none is asked for.
    """
    names = sorted({file.split for file in files if file.split is not None})
    if split is None:
        if len(names) > 1:
            raise InputError(f"{root}: holds the splits {', '.join(names)}; name one with `split:`")
        return files
    asked = split if split in names else _SPLITS.get(split.lower(), split)
    chosen = [file for file in files if file.split == asked]
    if not chosen:
        has = f"holds the splits {', '.join(names)}" if names else "names no splits"
        raise InputError(f"{root}: has no split {split!r}; it {has}")
    return chosen


def split_of(name: PurePath, dictionary: Sequence[str]) -> str | None:
    """Return the split that a path within a folder names; `dictionary` are those saved in it."""
    if name.parts[0] in dictionary:
        return name.parts[0]
    for part in name.parts[:-1]:
        if part.lower() in _SPLITS:
            return _SPLITS[part.lower()]
    stem = stem_of(name)
    bare = _SHARD.sub("", stem)
    words = re.split(r"[-_. ]", bare.lower())
    word = next((word for word in (words[0], words[-1]) if word in _SPLITS), None)
    if word is None or len(words) == 1:
        return word and _SPLITS[word]
    return bare if bare != stem else _SPLITS[word]  # shards are named by their split: train_sft


def saved_splits(root: Place) -> Sequence[str]:
    """Return the splits that a saved dictionary of data sets names."""
    path = root / "dataset_dict.json"
    splits = json_object(path).get("splits") if path.is_file() else None
    return [str(name) for name in splits] if isinstance(splits, list) else []


def json_object(path: Place) -> dict[str, object]:
    """Return the object in a file of JSON; empty if it holds something else."""
    with readable(path):
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            value = None
    return value if isinstance(value, dict) else {}
