"""Sketches: random projections of gradients that preserve their inner products on average.

A sketch is a pure function of (seed, parameter name, shape, width): no stored matrix, no random
state, the same on every device, batch, shard and world size. Two kinds:

"rotation" (the default). Element i of a parameter gets a random sign and lands in slot
(i + offset of its block) mod k/2, a block being k/2 consecutive elements; twice over with
independent signs and offsets, one result per half. Additions only, and contiguous ones. For two
vectors x, y the estimate has E = <x, y> and

    Var = 1/k Σ (x_i² y_j² + x_i y_i x_j y_j)   over i ≠ j that may share a slot,

which is a dense sign matrix's variance without the pairs inside a block: never above it.

"rademacher". The dense matrix of ±1/√k that LESS uses through TRAK; costs k products an element.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from tis_ray.errors import InputError
from tis_ray.gradients import fused
from tis_ray.gradients.adam import DirectionKind, check_moments, direction
from tis_ray.gradients.hashing import digest_words, fmix32, grid_words

SketchKind = Literal["rotation", "rademacher"]
VERSION = "tis/sketch/v1"

_DENSE_CHUNK = 1 << 22  # elements of the sign matrix that exist at once (16 MiB)


def checkpoint_seed(seed: int, checkpoint: int, shared: bool) -> int:
    """Return the sketch seed of one checkpoint.

    With a seed of its own for each, the errors of checkpoints are independent and average out in the
    weighted sum of scores; `shared` gives every checkpoint the same matrix, as in the paper.
    """
    if shared:
        return seed
    return digest_words(f"tis/sketch/checkpoint/v1|{seed}|{checkpoint}")[0]


def unit_rows(features_EK: Tensor) -> Tensor:
    """Return the rows scaled to length 1. Raises InputError naming the first zero or non-finite row."""
    broken = unusable_rows(features_EK)
    if broken:
        raise InputError(
            f"feature row {broken[0]} is zero or not finite ({len(broken)} such rows); "
            "it has no direction; quarantine that example"
        )
    return (features_EK.double() / _norms(features_EK)).to(features_EK.dtype)


def unusable_rows(features_EK: Tensor) -> list[int]:
    """Return the indices of rows without a direction: all zero, or with a NaN or infinity."""
    norms_E = _norms(features_EK)[:, 0]
    return (~(torch.isfinite(norms_E) & (norms_E > 0))).nonzero()[:, 0].tolist()


class Sketch:
    """A random projection of gradients to `width` numbers, fed one parameter at a time.

        accumulator = sketch.new(E)
        sketch.add(accumulator, name, block)      # for each parameter, in any order
        features = sketch.finish(accumulator)     # (E, width)

    Dot products of features estimate those of the whole gradients without bias; their relative
    error falls as 1/√width. Signs and offsets are kept for each (name, shape), about 8 bytes per
    parameter element of the model.
    """

    def __init__(self, width: int, seed: int, kind: SketchKind = "rotation") -> None:
        if kind not in get_args(SketchKind):
            raise InputError(f"sketch kind is {kind!r}; choose from {get_args(SketchKind)}")
        if kind == "rotation" and (width < 4 or width & (width - 1)):
            raise InputError(
                f"sketch width is {width}; a rotation sketch needs a power of two, at least 4"
            )
        if width < 1:
            raise InputError(f"sketch width is {width}; it must be at least 1")
        self.width, self.seed, self.kind = width, seed, kind
        self._tables: dict[tuple[str, tuple[int, ...], torch.device], _Tables] = {}

    @property
    def spec(self) -> dict[str, str | int]:
        """Everything that determines the projection, for a fingerprint or a manifest."""
        return {"version": VERSION, "kind": self.kind, "width": self.width, "seed": self.seed}

    def new(self, examples: int, device: torch.device | str = "cpu") -> Tensor:
        """Return an empty accumulator (E, width) float32, on the device of the blocks to come."""
        return torch.zeros(examples, self.width, dtype=torch.float32, device=device)

    def add(self, accumulator_EK: Tensor, name: str, block_E___: Tensor) -> None:
        """Add one parameter's per-example vectors (E, *shape) to the accumulator, in place.

        The order of summation is fixed; adding parameters in another order changes the result only
        by floating-point rounding. NaN and infinity stay in their own row.
        """
        examples, shape = block_E___.shape[0], tuple(block_E___.shape[1:])
        flat_En = block_E___.reshape(examples, -1).to(torch.float32)
        if self.kind == "rademacher":
            words = self._seed_words(0, name, shape)
            if flat_En.is_cuda and fused.AVAILABLE:
                fused.fold_dense(accumulator_EK, flat_En, words)
            else:
                self._add_dense(accumulator_EK, flat_En, words)
            return
        half_width = self.width // 2
        fold = _fold_slices if flat_En.device.type == "cpu" else _fold_gather
        for half, (signs_n, offsets_b) in enumerate(self._rotation(name, shape, flat_En.device)):
            target = accumulator_EK[:, half * half_width : (half + 1) * half_width]
            fold(target, flat_En, signs_n, offsets_b)

    def add_direction(
        self,
        accumulator_EK: Tensor,
        name: str,
        grads_E___: Tensor,
        kind: DirectionKind,
        exp_avg: Tensor | None = None,
        exp_avg_sq: Tensor | None = None,
    ) -> None:
        """Add one parameter's directions, as `add` of `direction(kind, ...)` does.

        On a GPU a rotation sketch takes one pass over the gradients, without what lies between (`fused`).
        """
        if not (self.kind == "rotation" and grads_E___.is_cuda and fused.AVAILABLE):
            self.add(accumulator_EK, name, direction(kind, grads_E___, exp_avg, exp_avg_sq))
            return
        if kind == "adam":
            check_moments(grads_E___, exp_avg, exp_avg_sq)
        flat_En = grads_E___.reshape(len(grads_E___), -1).to(torch.float32)
        shape = tuple(grads_E___.shape[1:])
        words = self._seed_words(0, name, shape), self._seed_words(1, name, shape)
        fused.fold(accumulator_EK, flat_En, kind, exp_avg, exp_avg_sq, words)

    def finish(self, accumulator_EK: Tensor) -> Tensor:
        """Return features (E, width) with unbiased dot products; the accumulator remains usable."""
        # Rotation: each half's signs are ±1, and <x, y> is the mean of the two halves' estimates.
        copies = 2 if self.kind == "rotation" else self.width
        return accumulator_EK * math.sqrt(1 / copies)

    def _seed_words(self, half: int, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
        size = "x".join(map(str, shape))
        words = digest_words(f"{VERSION}|{self.seed}|{half}|{name}|{size}|{self.width}")
        return words[0], words[1]

    def _rotation(self, name: str, shape: tuple[int, ...], device: torch.device) -> "_Tables":
        key = (name, shape, device)
        if key not in self._tables:
            count = torch.Size(shape).numel()
            self._tables[key] = [
                (
                    _signs(count, words[0], device),
                    _offsets(count, words[1], self.width // 2, device),
                )
                for words in (self._seed_words(half, name, shape) for half in (0, 1))
            ]
        return self._tables[key]

    def _add_dense(self, target_EK: Tensor, flat_En: Tensor, words: tuple[int, int]) -> None:
        count = flat_En.shape[1]
        rows = max(1, _DENSE_CHUNK // self.width)
        for start in range(0, count, rows):
            stop = min(start + rows, count)
            signs_nK = _dense_signs(start, stop, self.width, words, flat_En.device)
            target_EK.addmm_(flat_En[:, start:stop], signs_nK)


_Tables = list[tuple[Tensor, Tensor]]
"""For each half the signs (n,) float32 and the offsets of the blocks (b,) int64."""


def _fold_slices(target: Tensor, flat_En: Tensor, signs_n: Tensor, offsets_b: Tensor) -> None:
    """Add signed, rotated blocks by contiguous slices: one pass over memory, no index arrays."""
    slots, count = target.shape[1], flat_En.shape[1]
    for block, offset in enumerate(offsets_b.tolist()):
        start, stop = block * slots, min((block + 1) * slots, count)
        wrap = min(stop, start + slots - offset)
        target[:, offset : offset + wrap - start].addcmul_(
            flat_En[:, start:wrap], signs_n[start:wrap]
        )
        if wrap < stop:
            target[:, : stop - wrap].addcmul_(flat_En[:, wrap:stop], signs_n[wrap:stop])


def _fold_gather(target: Tensor, flat_En: Tensor, signs_n: Tensor, offsets_b: Tensor) -> None:
    """The same sums in a handful of kernels, for devices where a launch costs more than a slice."""
    examples, slots, blocks = target.shape[0], target.shape[1], len(offsets_b)
    padding = blocks * slots - flat_En.shape[1]
    blocks_Ebk = functional.pad(flat_En * signs_n, (0, padding)).view(examples, blocks, slots)
    source_bk = (torch.arange(slots, device=target.device) - offsets_b[:, None]) & (slots - 1)
    target += blocks_Ebk.gather(2, source_bk.expand(examples, -1, -1)).sum(dim=1)


def _signs(count: int, seed: int, device: torch.device) -> Tensor:
    """sign(i) = bit (i mod 32) of fmix32((i div 32) xor seed): ±1 float32 (count,)."""
    words = fmix32(torch.arange(-(-count // 32), dtype=torch.int64, device=device) ^ seed)
    return _bits_to_signs(words)[:count]


def _offsets(count: int, seed: int, slots: int, device: torch.device) -> Tensor:
    """offset(b) = fmix32(b xor seed) mod slots, one for each block of `slots` elements."""
    blocks = torch.arange(-(-count // slots), dtype=torch.int64, device=device)
    return fmix32(blocks ^ seed) & (slots - 1)


def _dense_signs(
    start: int, stop: int, width: int, words: tuple[int, int], device: torch.device
) -> Tensor:
    """Rows start..stop of the dense sign matrix, ±1 float32 (stop - start, width).

    sign(i, j) = bit (j mod 32) of word(i, j div 32); see `grid_words`.
    """
    rows = torch.arange(start, stop, dtype=torch.int64, device=device)
    columns = torch.arange(-(-width // 32), dtype=torch.int64, device=device)
    hashed = grid_words(rows, columns, *words)
    return _bits_to_signs(hashed.flatten()).view(stop - start, -1)[:, :width]


def _bits_to_signs(words: Tensor) -> Tensor:
    """The 32 bits of each word, lowest first, as +1 (bit 0) and -1 (bit 1): (32 x words,)."""
    shifts = torch.arange(0, 32, 8, dtype=torch.int64, device=words.device)
    octets = (words[:, None] >> shifts) & 0xFF
    bits = torch.arange(256, dtype=torch.int64, device=words.device)[:, None]
    table = 1.0 - 2.0 * ((bits >> torch.arange(8, device=words.device)) & 1).to(torch.float32)
    return functional.embedding(octets, table).flatten()


def _norms(features_EK: Tensor) -> Tensor:
    # float64: squares of large float32 gradients overflow float32.
    norms_E1: Tensor = torch.linalg.vector_norm(features_EK.double(), dim=1, keepdim=True)
    return norms_E1
