"""Sketches as Triton kernels, for GPUs: signs are hashed in registers, and no table lies in memory.

Rotation: `direction` followed by `Sketch.add` reads and writes a block some thirty times. Here a
program takes one example and a few consecutive blocks of slots, reads the gradient and the two moments,
makes the direction in registers and keeps both halves of the sketch.

Rademacher: the dense matrix of signs exists in tiles, each made where it is multiplied, on the units
for TF32. Gradients are sums of two such numbers there, signs are exact, and sums are float32.

Programs write partial sums, which are added in a fixed order: no atomics, so the same input gives the
same bytes. The reference is `direction` and `Sketch.add`; results differ by the rounding of sums alone
(rotation 1e-6, dense 5e-6 of a row's length).
"""

from typing import Any

from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # torch for CPUs comes without it
    triton = None

AVAILABLE = triton is not None

_BLOCKS = 16  # blocks of slots that one program adds up
_TILE = 1024  # slots of each half that one program keeps
_DENSE_TILE = 128  # columns of the dense matrix that one program keeps
_DENSE_ROWS = 8192  # rows of it that one program adds up


def fold(
    accumulator_EK: Tensor,
    block_En: Tensor,
    kind: str,
    first_n: Tensor | None,
    second_n: Tensor | None,
    words: tuple[tuple[int, int], tuple[int, int]],
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> None:
    """Add the sketch of each example's direction to the accumulator, in place.

    block_En: contiguous float32 gradients; first_n, second_n: Adam's moments, used if kind is "adam".
    words: for each half of the sketch the seeds of its signs and of its offsets.
    """
    examples, count = block_En.shape
    slots = accumulator_EK.shape[1] // 2
    chunks = triton.cdiv(count, slots * _BLOCKS)
    tile = min(_TILE, slots)
    partial = accumulator_EK.new_empty(chunks, examples, 2 * slots)
    adam = kind == "adam"
    _fold_kernel[examples, slots // tile, chunks](
        block_En,
        first_n if adam else block_En,
        second_n if adam else block_En,
        partial,
        count,
        *(_signed(word) for half in words for word in half),
        betas[0],
        1 - betas[0],
        betas[1],
        1 - betas[1],
        eps,
        KIND={"sgd": 0, "sign": 1, "adam": 2}[kind],
        SLOTS=slots,
        TILE=tile,
        BLOCKS=_BLOCKS,
        num_warps=4,
    )
    accumulator_EK.add_(partial[0] if chunks == 1 else partial.sum(dim=0))


def fold_dense(accumulator_EK: Tensor, block_En: Tensor, words: tuple[int, int]) -> None:
    """Add the products with the dense matrix of signs to the accumulator, in place."""
    examples, count = block_En.shape
    width = accumulator_EK.shape[1]
    chunks = triton.cdiv(count, _DENSE_ROWS)
    together = max(16, min(64, triton.next_power_of_2(examples)))
    partial = accumulator_EK.new_empty(chunks, examples, width)
    grid = (triton.cdiv(width, _DENSE_TILE), chunks, triton.cdiv(examples, together))
    _dense_kernel[grid](
        block_En,
        partial,
        count,
        examples,
        width,
        *(_signed(word) for word in words),
        TOGETHER=together,
        TILE=_DENSE_TILE,
        STEP=64,
        ROWS=_DENSE_ROWS,
        num_warps=8,
    )
    accumulator_EK.add_(partial[0] if chunks == 1 else partial.sum(dim=0))


def _signed(word: int) -> int:
    """Return the int32 with the bits of a uint32: all words then have one type, and one kernel."""
    return word - (1 << 32) if word >= 1 << 31 else word


if AVAILABLE:

    @triton.jit
    def _fmix32(word: "Any") -> "Any":
        """MurmurHash3's finaliser, as `hashing.fmix32`, on uint32 values."""
        word = (word ^ (word >> 16)) * 0x85EBCA6B
        word = (word ^ (word >> 13)) * 0xC2B2AE35
        return word ^ (word >> 16)

    @triton.jit
    def _signed_direction(
        grads: "Any",
        first: "Any",
        second: "Any",
        inside: "Any",
        index: "Any",
        seed: "Any",
        beta1: "Any",
        rest1: "Any",
        beta2: "Any",
        rest2: "Any",
        eps: "Any",
        KIND: tl.constexpr,
    ) -> "Any":
        """Return the directions of these elements, each times its sign."""
        value = tl.load(grads + index, mask=inside, other=0.0)
        if KIND == 1:
            value = tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, value))
        if KIND == 2:
            m = tl.load(first + index, mask=inside, other=0.0)
            v = tl.load(second + index, mask=inside, other=0.0)
            denominator = beta2 * v + eps + rest2 * value * value
            value = (beta1 * m + rest1 * value) * tl.rsqrt(denominator)
        word = _fmix32((index >> 5).to(tl.uint32) ^ seed)
        bit = (word >> (index & 31).to(tl.uint32)) & 1
        return tl.where(bit == 0, value, -value)

    # Seeds are not specialised: 1 would be a constant, and multiples of 16 kernels of their own.
    @triton.jit(do_not_specialize=["sign0", "offset0", "sign1", "offset1"])
    def _fold_kernel(
        grads: "Any",
        first: "Any",
        second: "Any",
        partial: "Any",
        count: "Any",
        sign0: "Any",
        offset0: "Any",
        sign1: "Any",
        offset1: "Any",
        beta1: "Any",
        rest1: "Any",
        beta2: "Any",
        rest2: "Any",
        eps: "Any",
        KIND: tl.constexpr,
        SLOTS: tl.constexpr,
        TILE: tl.constexpr,
        BLOCKS: tl.constexpr,
    ) -> None:
        """Add up some blocks of one example, for some slots of both halves."""
        example = tl.program_id(0)
        slot = tl.program_id(1) * TILE + tl.arange(0, TILE)
        chunk = tl.program_id(2)
        own = grads + example.to(tl.int64) * count
        total0 = tl.zeros([TILE], dtype=tl.float32)
        total1 = tl.zeros([TILE], dtype=tl.float32)
        seed0 = sign0.to(tl.uint32, bitcast=True)
        seed1 = sign1.to(tl.uint32, bitcast=True)
        shift0 = offset0.to(tl.uint32, bitcast=True)
        shift1 = offset1.to(tl.uint32, bitcast=True)
        for step in range(BLOCKS):
            block = chunk * BLOCKS + step
            at = block.to(tl.uint32)
            rotated0 = (_fmix32(at ^ shift0) & (SLOTS - 1)).to(tl.int32)
            rotated1 = (_fmix32(at ^ shift1) & (SLOTS - 1)).to(tl.int32)
            index0 = block * SLOTS + ((slot - rotated0) & (SLOTS - 1))
            index1 = block * SLOTS + ((slot - rotated1) & (SLOTS - 1))
            total0 += _signed_direction(
                own, first, second, index0 < count, index0, seed0,
                beta1, rest1, beta2, rest2, eps, KIND,
            )  # fmt: skip
            total1 += _signed_direction(
                own, first, second, index1 < count, index1, seed1,
                beta1, rest1, beta2, rest2, eps, KIND,
            )  # fmt: skip
        width = 2 * SLOTS
        target = partial + (chunk * tl.num_programs(0) + example).to(tl.int64) * width + slot
        tl.store(target, total0)
        tl.store(target + SLOTS, total1)

    @triton.jit(do_not_specialize=["first", "second"])
    def _dense_kernel(
        grads: "Any",
        partial: "Any",
        count: "Any",
        examples: "Any",
        width: "Any",
        first: "Any",
        second: "Any",
        TOGETHER: tl.constexpr,
        TILE: tl.constexpr,
        STEP: tl.constexpr,
        ROWS: tl.constexpr,
    ) -> None:
        """Multiply some examples with some columns of the signs, over some of the rows."""
        chunk = tl.program_id(1)
        example = tl.program_id(2) * TOGETHER + tl.arange(0, TOGETHER)
        column = tl.program_id(0) * TILE + tl.arange(0, TILE)
        own = grads + example.to(tl.int64)[:, None] * count
        known = (example < examples)[:, None]
        # sign(i, j) is bit (j mod 32) of word(i, j div 32); see `hashing.grid_words`.
        group = (tl.program_id(0) * (TILE // 32) + tl.arange(0, TILE // 32)).to(tl.uint32)
        column_word = group * 0x9E3779B9 + second.to(tl.uint32, bitcast=True)
        shifts = tl.arange(0, 32).to(tl.uint32)
        seed = first.to(tl.uint32, bitcast=True)
        total = tl.zeros([TOGETHER, TILE], dtype=tl.float32)
        for start in range(0, ROWS, STEP):
            row = chunk * ROWS + start + tl.arange(0, STEP)
            words = _fmix32(_fmix32(row.to(tl.uint32) ^ seed)[:, None] ^ column_word[None, :])
            bits = (words[:, :, None] >> shifts[None, None, :]) & 1
            signs = tl.reshape(1.0 - 2.0 * bits.to(tl.float32), [STEP, TILE])
            values = tl.load(own + row[None, :], mask=known & (row < count)[None, :], other=0.0)
            # TF32 has 11 bits, so two such numbers hold 22 of float32's 24; signs are exact. Each product
            # starts at zero: the units cut the last bits of long sums, and adding here rounds them.
            high = (values.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
            total += tl.dot(values - high, signs, input_precision="tf32")
            total += tl.dot(high, signs, input_precision="tf32")
        target = partial + (chunk * examples + example).to(tl.int64)[:, None] * width
        tl.store(target + column[None, :], total, mask=known & (column < width)[None, :])
