"""Tensors in files of torch and of safetensors, as numpy arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.errors import InputError

_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def torch_arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file of `torch.save`: one tensor (named ""), or a dict of them.

    Read with `weights_only=True`. Raises InputError if it holds neither.
    """
    import torch  # only who has such a file waits for it

    held = read_torch(file)
    tensors = {"": held} if isinstance(held, torch.Tensor) else held
    if not isinstance(tensors, Mapping) or not all(
        isinstance(tensor, torch.Tensor) for tensor in tensors.values()
    ):
        raise InputError(
            f"{file} holds a {type(held).__name__}; save one tensor, or a dict of tensors by name"
        )
    return {
        str(name): (t.float() if t.dtype == torch.bfloat16 else t).detach().contiguous().numpy()
        for name, t in tensors.items()
    }


def read_torch(file: Path) -> Any:
    """Return what `torch.save` wrote: tensors and plain values on the CPU; nothing else is unpickled.

    Raises ValueError, with the reason in one line, for what is damaged or holds something else.
    """
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # it raises of every kind
        if str(error).startswith("Weights only load failed"):
            raise ValueError(
                "it holds more than tensors and plain values, and nothing else is unpickled; save the tensors alone"
            ) from None
        raise ValueError((str(error).strip() or type(error).__name__).splitlines()[0]) from None


def safetensors_arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a .safetensors file by name, on disk until they are looked at.

    The format is a length of 8 bytes, a JSON header of so many, and the values. Read here, because
    numpy has no bfloat16, which is what most such files hold: it is the upper half of a float32.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > size - 8:
            raise ValueError("its header is longer than the file")
        header = json.loads(opened.read(length))
    arrays = {}
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        begin, end = facts["data_offsets"]
        half = facts["dtype"] == "BF16"
        if not half and facts["dtype"] not in _TYPES:
            raise InputError(f"{file}: {name} is of type {facts['dtype']}; give floats or integers")
        kind = np.dtype(np.uint16 if half else _TYPES[facts["dtype"]])
        count = (end - begin) // kind.itemsize
        values = (
            np.memmap(file, kind, "r", 8 + length + begin, (count,)) if count else np.empty(0, kind)
        )
        values = values.reshape(facts["shape"])
        arrays[name] = (values.astype(np.uint32) << 16).view(np.float32) if half else values
    return arrays
