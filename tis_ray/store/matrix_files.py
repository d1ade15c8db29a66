"""Matrices that were made elsewhere: .npy, .npz, torch and safetensors files, as float32 or float64.

A file with several arrays is asked for one by its name, `S.npz:scores`. A mask is heard: an array `mask`
beside the values in an .npz marks what is missing, as `numpy.ma` has it (True is missing). Nothing in a
file is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.storage import AnyPlace, Place, local_file, place
from tis_ray.store.torch_files import safetensors_arrays, torch_arrays

KINDS = (".npy", ".npz", ".pt", ".pth", ".safetensors")
MASK = "mask"

Matrix = NDArray[np.floating]
"""Values; a `numpy.ma.MaskedArray` where some are missing."""


def split_name(path: AnyPlace) -> tuple[Place, str | None]:
    """Return a file, and the name of the array in it that is meant, if `path` has one after a colon."""
    text = str(path)
    before, colon, name = text.rpartition(":")
    if colon and name and before.endswith(KINDS) and not place(text).exists():
        return place(before), name
    return place(text), None


def open_matrix(path: AnyPlace) -> Matrix:
    """Return a file's array; float32 and float64 of an .npy stay on disk until they are looked at.

    float16, bfloat16 and integers are converted. Raises InputError, naming the file, when it is missing,
    holds something else, or holds several arrays and none is named.
    """
    file, name = split_name(path)
    if not file.is_file():
        problem = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"{file} {problem}; give a file of one of {', '.join(KINDS)}")
    if file.suffix not in KINDS:
        raise InputError(f"{file} is not of a known kind; give one of {', '.join(KINDS)}")
    try:
        arrays = _arrays(local_file(file))
    except InputError:
        raise
    except Exception as error:  # the readers of damaged files raise of every kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{file} is not a readable {file.suffix} matrix ({reason}); write it again, without pickled "
            "objects"
        ) from None
    mask = None
    if MASK in arrays and len(arrays) > 1 and name != MASK:
        mask = _as_mask(arrays[MASK], file)
        arrays = {each: array for each, array in arrays.items() if each != MASK}
    values = _as_floats(_chosen(arrays, name, file), file)
    if mask is None:
        return values
    if mask.shape != values.shape:
        raise InputError(
            f"{file}: its `{MASK}` has shape {mask.shape}, and its values {values.shape}; give them the "
            "same shape"
        )
    return np.ma.MaskedArray(values, mask)


def _as_mask(array: np.ndarray, file: Place) -> np.ndarray:
    """Return a mask as booleans: true, or 1, hides. Raises InputError for anything else of that name."""
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise InputError(
            f"{file}: its `{MASK}` has other values than 0 and 1 (or false and true); 1 hides a candidate. "
            "Rename the array if it is no mask"
        )
    return array.astype(bool)


def _arrays(file: Path) -> Mapping[str, np.ndarray]:
    """Return the arrays of a file by name; the one of an .npy has the name ""."""
    if file.suffix == ".npy":
        return {"": np.lib.format.open_memmap(file, mode="r")}
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    return safetensors_arrays(file) if file.suffix == ".safetensors" else torch_arrays(file)


def _chosen(arrays: Mapping[str, np.ndarray], name: str | None, file: Place) -> np.ndarray:
    names = ", ".join(sorted(arrays)) or "none"
    if name is not None:
        if name not in arrays:
            raise InputError(f"{file} has no array {name!r}; it has {names}")
        return arrays[name]
    if len(arrays) != 1:
        first = min(arrays, default="scores")
        raise InputError(
            f"{file} has {len(arrays)} arrays ({names}); name one, as in {file}:{first}"
        )
    return next(iter(arrays.values()))


def _as_floats(array: np.ndarray, file: Place) -> Matrix:
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        return array
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    raise InputError(f"{file}: type {array.dtype} is no number to rank by; give floats or integers")
