"""How stored features are encoded: float32, float16, int8, int4 or int2.

A feature is a sketch of K numbers whose two halves are independent sketches of one gradient, so
every half is encoded by itself, with a scale of its own. Bytes of one checkpoint's feature:

    float32 4K    float16 2K    int8 K + 8    int4 K/2 + 8    int2 K/4 + 8

int8 rounds to 127 steps either side of zero, the last one being the half's largest magnitude.
Below 8 bits that loses most of a sketch: its hot columns set the scale, the rest rounds to zero. So
a half x of k = K/2 numbers is first rotated, y = H S x / √k, with H the Hadamard matrix and S fixed
random signs: whatever x was, the coordinates of y are close to Gaussian. As H H = k, x = S H y / √k
undoes it. (QLESS, arXiv 2502.01703, selects well with low-bit gradient features unrotated.) Over
its root mean square, y gets the quantiser best for a Gaussian (Max 1960, Lloyd 1982):

    int4  16 uniform levels, step 0.3352                      distortion D = 0.01154
    int2  levels ±0.4528, ±1.5104, thresholds 0 and ±0.9816   distortion D = 0.1175

D is 1 - cos² of a vector and what is decoded from it. With the levels q(y) goes a scale, |y|² /
<y, q(y)>, that makes <decoded, x> exactly |x|²; the rest of the error has a random direction, so
dot products with other vectors are unbiased (EDEN, arXiv 2108.08842). The length is 1/√(1 - D)
too large, 0.6% (int4) or 6.4% (int2). `decode(..., unit=True)` makes it 1 and so shrinks cosines
by √(1 - D), 0.994 or 0.939, all alike. The rotation is additions in a fixed order, not matrix
products: a row's bytes do not depend on other rows, on threads, or on a library's kernels.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from tis_ray.errors import InputError

VERSION = "tis/codec/v1"  # for fingerprints: changes whenever the bytes do
STORED_AS = {"float32": "<f4", "float16": "<f2", "int8": "|i1", "int4": "|u1", "int2": "|u1"}

_BITS = {"int4": 4, "int2": 2}
_STEP = {"int4": 0.3352, "int2": 0.9816}  # between thresholds, in root mean squares
_LEVELS = {"int4": 0.3352 * (np.arange(16) - 7.5), "int2": [-1.5104, -0.4528, 0.4528, 1.5104]}
_BLOCK = 1 << 16  # numbers worked on at once: small enough to stay in cache with two copies


@dataclass(frozen=True)
class Encoded:
    """E rows of C features as they are stored; slices of both arrays hold a slice of the rows."""

    data: np.ndarray
    """(E, C, K) float32, float16 or int8; (E, C, K/2) uint8 for int4; (E, C, K/4) for int2."""
    scales: np.ndarray | None
    """(E, C, 2) float32, one for each half of a feature; None for float types."""
    dtype: str
    """The type's name: `data.dtype` is uint8 for both int4 and int2."""

    def __post_init__(self) -> None:
        stored = np.dtype(_stored_as(self.dtype, self.width))
        if self.data.dtype != stored or (self.scales is None) != (stored.kind == "f"):
            scales = "no scales" if self.scales is None else "scales"
            raise InputError(
                f"{self.dtype} features are stored as {stored}, with scales if integer; found "
                f"{self.data.dtype} and {scales}"
            )

    @property
    def width(self) -> int:
        """K, the numbers of one feature."""
        return self.data.shape[2] * 8 // _BITS.get(self.dtype, 8)


def encode(values_ECK: np.ndarray, dtype: str) -> Encoded:
    """Encode features (E, C, K). A row's bytes do not depend on other rows; zero stays zero.

    Raises InputError where K does not suit the type (even for int8; a power of two, at least 4,
    for int4 and int2), and naming the first row with a value that is not finite or too large.
    """
    examples, checkpoints, width = values_ECK.shape
    stored, columns = _stored_as(dtype, width), width * _BITS.get(dtype, 8) // 8
    rows_RK = values_ECK.reshape(examples * checkpoints, width)
    data = np.empty((len(rows_RK), columns), stored)
    scales_R2 = np.empty((len(rows_RK), 2), "<f4")
    with np.errstate(invalid="ignore", over="ignore"):  # what overflows is reported below
        for block in _blocks(*rows_RK.shape):
            if stored[1] == "f":
                data[block] = rows_RK[block]
            else:
                halves_R2k = rows_RK[block].reshape(-1, 2, width // 2).astype(np.float32)
                data[block], scales_R2[block] = _encode_halves(halves_R2k, dtype)
    data_ECx = data.reshape(examples, checkpoints, columns)
    scales_EC2 = None if stored[1] == "f" else scales_R2.reshape(examples, checkpoints, 2)
    broken = ~np.isfinite(data_ECx if scales_EC2 is None else scales_EC2).all(axis=2)
    if broken.any():
        place = "feature row {}, checkpoint {}".format(*np.argwhere(broken)[0])
        raise InputError(f"{place}: not finite or too large for {dtype}; quarantine that example")
    return Encoded(data_ECx, scales_EC2, dtype)


def decode(encoded: Encoded, unit: bool = False) -> np.ndarray:
    """Return the features (E, C, K) float32; with `unit`, each of length 1 unless it is zero."""
    examples, checkpoints, columns = encoded.data.shape
    rows_RK = np.empty((examples * checkpoints, encoded.width), np.float32)
    data = encoded.data.reshape(len(rows_RK), columns)
    for block in _blocks(*rows_RK.shape):
        if encoded.scales is None:
            rows_RK[block] = data[block]
        else:
            scales_R21 = encoded.scales.reshape(len(rows_RK), 2, 1)[block]
            halves_R2k = _levels(data[block], encoded.dtype)
            halves_R2k = halves_R2k if encoded.dtype == "int8" else unrotate(halves_R2k)
            rows_RK[block] = (halves_R2k * scales_R21).reshape(-1, encoded.width)
        if unit:
            lengths_R = np.sqrt(np.square(rows_RK[block], dtype=np.float64).sum(axis=1))
            rows_RK[block] /= np.where(lengths_R == 0, 1, lengths_R)[:, None]
    return rows_RK.reshape(examples, checkpoints, encoded.width)


def rotate(halves_R2k: np.ndarray) -> np.ndarray:
    """Return H S x / √k of both halves x of each row (R, 2, k). Orthonormal; k a power of two."""
    return _hadamard(halves_R2k * _signs(halves_R2k.shape[2]))


def unrotate(halves_R2k: np.ndarray) -> np.ndarray:
    """Return S H y / √k of both halves y of each row (R, 2, k): the inverse of `rotate`."""
    return _hadamard(halves_R2k) * _signs(halves_R2k.shape[2])


def _encode_halves(halves_R2k: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes (R, columns) and the scales (R, 2) of float32 halves."""
    rows, _, half_width = halves_R2k.shape
    largest_R2 = np.abs(halves_R2k).max(axis=2)
    halves_R2k = halves_R2k / _divisor(largest_R2)  # at most 1: squares cannot overflow
    if dtype == "int8":
        return np.rint(halves_R2k * 127).astype(np.int8).reshape(rows, -1), largest_R2 / 127
    rotated_R2k = rotate(halves_R2k)
    squares_R2 = np.square(rotated_R2k).sum(axis=2)
    bits, count = _BITS[dtype], 1 << _BITS[dtype]
    cells_R2k = rotated_R2k / _divisor(_STEP[dtype] * np.sqrt(squares_R2 / half_width)) + count / 2
    codes_RK = np.clip(cells_R2k, 0, count - 0.5).astype(np.uint8).reshape(rows, -1)
    data = codes_RK[:, :: 8 // bits].copy()
    for place in range(1, 8 // bits):
        data |= codes_RK[:, place :: 8 // bits] << (place * bits)
    products_R2 = (rotated_R2k * _levels(data, dtype)).sum(axis=2)
    return data, largest_R2 * squares_R2 / _divisor(products_R2)[:, :, 0]


def _levels(data: np.ndarray, dtype: str) -> np.ndarray:
    """Return the quantiser's levels (R, 2, k) of codes (R, columns), unpacked if need be."""
    levels = data if dtype == "int8" else np.take(_table(dtype), data, axis=0)
    return levels.reshape(len(data), 2, -1)


@functools.cache
def _table(dtype: str) -> np.ndarray:
    """Return the levels in each byte, (256, numbers a byte); the lowest bits come first."""
    codes = np.arange(256)[:, None] >> np.arange(0, 8, _BITS[dtype]) & ((1 << _BITS[dtype]) - 1)
    return np.asarray(_LEVELS[dtype], np.float32)[codes]


def _hadamard(halves_R2k: np.ndarray) -> np.ndarray:
    """Return H x of each x along the last axis, in Sylvester's order and not normalised.

    A step puts a + b of neighbours into the first half and a - b into the second. That rotates the
    bits of an index by one, so after log2 k steps everything is back in its place.
    """
    source, middle = halves_R2k, halves_R2k.shape[2] // 2
    for _ in range(middle.bit_length()):
        left, right, source = source[..., ::2], source[..., 1::2], np.empty_like(source)
        np.add(left, right, out=source[..., :middle])
        np.subtract(left, right, out=source[..., middle:])
    return source


@functools.lru_cache(maxsize=8)
def _signs(half_width: int) -> np.ndarray:
    """Return fixed random signs over √k, (2, k): a function of position alone."""
    digest = hashlib.shake_256(b"tis/codec/v1/signs").digest(-(-half_width // 4))
    bits = np.unpackbits(np.frombuffer(digest, np.uint8), count=2 * half_width, bitorder="little")
    return ((1 - 2.0 * bits) / np.sqrt(half_width)).astype(np.float32).reshape(2, half_width)


def _blocks(rows: int, width: int) -> list[slice]:
    step = max(1, _BLOCK // width)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _divisor(values_R2: np.ndarray) -> np.ndarray:
    """Return what halves are divided by (R, 2, 1): the values, or 1 in place of zero."""
    return np.where(values_R2 == 0, np.float32(1), values_R2)[:, :, None]


def _stored_as(dtype: str, width: int) -> str:
    """Return the array type of features of this width. Raises InputError where there is none."""
    if dtype not in STORED_AS:
        raise InputError(f"feature type is {dtype!r}; choose from {', '.join(STORED_AS)}")
    if dtype in _BITS and (width < 4 or width & (width - 1)):
        raise InputError(
            f"{dtype} features of width {width}: half of it, {width / 2:g}, must be a power of two, "
            "at least 2; change the sketch width, or use float16"
        )
    if dtype == "int8" and width % 2:
        raise InputError(f"int8 features of width {width}: it must be even; use float16")
    return STORED_AS[dtype]
