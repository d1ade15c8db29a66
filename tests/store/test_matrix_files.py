"""Matrices in every form that people have them: the same numbers, or one line that names the file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tis_ray.errors import InputError
from tis_ray.store.matrix_files import open_matrix

VALUES = np.random.default_rng(0).integers(-40, 40, (3, 7)).astype(np.float32) / 8
"""Exact in every type, bfloat16 included."""
TENSOR = torch.from_numpy(VALUES)


def _npz(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("s.npy", lambda path: np.save(path, VALUES)),
        ("s.npy", lambda path: np.save(path, VALUES.astype(np.float64))),
        ("s.npy", lambda path: np.save(path, VALUES.astype(np.float16))),
        ("s.npy", lambda path: np.save(path, np.asfortranarray(VALUES))),
        ("s.npz", lambda path: _npz(path, anything=VALUES)),
        ("s.npz", lambda path: np.savez_compressed(path, VALUES.astype(np.float16))),
        ("s.pt", lambda path: torch.save(TENSOR, path)),
        ("s.pth", lambda path: torch.save({"scores": TENSOR.to(torch.bfloat16)}, path)),
        ("s.pt", lambda path: torch.save(TENSOR.double().requires_grad_(), path)),
        ("s.pt", lambda path: torch.save(TENSOR.T.contiguous().T, path)),
        ("s.safetensors", lambda path: save_file({"scores": TENSOR}, path)),
        ("s.safetensors", lambda path: save_file({"a": TENSOR.half()}, path, {"format": "pt"})),
        ("s.safetensors", lambda path: save_file({"a": TENSOR.to(torch.bfloat16)}, path)),
        ("s.safetensors", lambda path: save_file({"a": TENSOR.double()}, path)),
    ],
)
def test_every_form_gives_the_same_numbers(tmp_path, name, write):
    write(tmp_path / name)
    found = open_matrix(tmp_path / name)
    assert found.dtype in (np.float32, np.float64)
    np.testing.assert_array_equal(found, VALUES)


def test_integers_become_floats(tmp_path):
    np.save(tmp_path / "s.npy", np.array([[2**40, -3]]))
    found = open_matrix(tmp_path / "s.npy")
    assert found.dtype == np.float64
    assert found.tolist() == [[2**40, -3]]


def test_a_large_npy_stays_on_disk(tmp_path):
    np.save(tmp_path / "s.npy", VALUES)
    assert isinstance(open_matrix(tmp_path / "s.npy"), np.memmap)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_one_of_several_arrays_is_asked_for_by_name(tmp_path, suffix):
    path = tmp_path / f"s{suffix}"
    writers = {
        ".npz": lambda: _npz(path, a=VALUES, b=2 * VALUES),
        ".pt": lambda: torch.save({"a": TENSOR, "b": 2 * TENSOR}, path),
        ".safetensors": lambda: save_file({"a": TENSOR, "b": 2 * TENSOR}, path),
    }
    writers[suffix]()
    np.testing.assert_array_equal(open_matrix(f"{path}:b"), 2 * VALUES)
    with pytest.raises(InputError, match=rf"has 2 arrays \(a, b\); name one, as in .*s\{suffix}:a"):
        open_matrix(path)
    with pytest.raises(InputError, match="has no array 'c'; it has a, b"):
        open_matrix(f"{path}:c")


def test_a_mask_beside_the_values_is_heard(tmp_path):
    masked = np.ma.masked_greater(VALUES, 3)
    _npz(tmp_path / "s.npz", scores=masked.data, mask=masked.mask)
    found = open_matrix(tmp_path / "s.npz")
    assert isinstance(found, np.ma.MaskedArray)
    np.testing.assert_array_equal(found.mask, masked.mask)
    np.testing.assert_array_equal(found.filled(0), masked.filled(0))
    _npz(tmp_path / "t.npz", scores=VALUES, mask=np.zeros((3, 2), bool))
    with pytest.raises(InputError, match=r"its `mask` has shape \(3, 2\), and its values \(3, 7\)"):
        open_matrix(tmp_path / "t.npz")


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.float32])
def test_a_mask_of_numbers_is_heard_or_refused_and_never_passed_over(tmp_path, kind):
    mask = (VALUES > 3).astype(kind)
    _npz(tmp_path / "s.npz", scores=VALUES, mask=mask)
    for place in (tmp_path / "s.npz", f"{tmp_path / 's.npz'}:scores"):
        np.testing.assert_array_equal(open_matrix(place).mask, VALUES > 3)
    _npz(tmp_path / "t.npz", scores=VALUES, mask=mask * 2)
    with pytest.raises(InputError, match="other values than 0 and 1"):
        open_matrix(tmp_path / "t.npz")


class Bomb:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("s.npy", lambda path: None, "does not exist"),
        ("s.npz", lambda path: path.mkdir(), "is a folder"),
        ("s.csv", lambda path: path.write_text("1,2"), "is not of a known kind"),
        *(
            (f"s{suffix}", lambda path: path.write_bytes(b"x" * 40), "is not a readable")
            for suffix in (".npy", ".npz", ".pt", ".safetensors")
        ),
        ("s.npy", lambda path: np.save(path, np.array([["a"]])), "type <U1 is no number"),
        ("s.npy", lambda path: np.save(path, VALUES > 0), "type bool is no number"),
        ("s.npy", lambda path: np.save(path, VALUES + 1j), "type complex64 is no number"),
        ("s.pt", lambda path: torch.save([1, 2], path), "holds a list; save one tensor"),
        ("s.npz", lambda path: _npz(path), "has 0 arrays"),
    ],
)
def test_what_is_no_matrix_is_one_line(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(InputError, match=message) as error:
        open_matrix(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["s.npy", "s.npz", "s.pt"])
def test_nothing_is_unpickled(tmp_path, name):
    bomb, exploded = Bomb(tmp_path / "exploded"), tmp_path / "exploded"
    writers = {
        "s.npy": lambda path: np.save(path, np.array([[bomb]]), allow_pickle=True),
        "s.npz": lambda path: _npz(path, a=np.array([[bomb]])),
        "s.pt": lambda path: path.write_bytes(pickle.dumps(bomb)),
    }
    writers[name](tmp_path / name)
    with pytest.raises(InputError, match="is not a readable"):
        open_matrix(tmp_path / name)
    assert not exploded.exists()
