"""Counter-based random words: word i is a hash of i and a seed, so none depends on another.

A generator's stream depends on how much was drawn before, and on the device. A hash of (seed,
position) gives the same word wherever it is computed and whatever else is, which is what lets
sketches and dropout masks ignore batches, shards and restarts. Words are uint32 values in int64
tensors, which every device has.
"""

import hashlib
import struct

from torch import Tensor

_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: spreads small column numbers over all 32 bits


def digest_words(text: str) -> tuple[int, ...]:
    """Return four uint32 words of the text's BLAKE2b hash, little-endian."""
    return struct.unpack("<4I", hashlib.blake2b(text.encode(), digest_size=16).digest())


def fmix32(words: Tensor) -> Tensor:
    """Apply MurmurHash3's finaliser to int64 tensors that hold uint32 values.

    The products overflow int64 and wrap; the low 32 bits are right all the same, and masking after
    each makes the right shifts logical ones. In place after the first step: a mask hashes as many
    words as a layer has inputs, and copies would take half the time.
    """
    words = words ^ (words >> 16)
    words.mul_(0x85EBCA6B).bitwise_and_(_MASK)
    words.bitwise_xor_(words >> 13)
    words.mul_(0xC2B2AE35).bitwise_and_(_MASK)
    return words.bitwise_xor_(words >> 16)


def grid_words(rows: Tensor, columns: Tensor, first: Tensor | int, second: Tensor | int) -> Tensor:
    """Return word(i, j) = fmix32(fmix32(i xor first) xor (φ j + second)), (..., R, C) int64.

    rows: (..., R) and columns: (..., C) int64 counters below 2^32.
    first, second: the seed words, one for all or tensors that broadcast with the counters.
    """
    row_words = fmix32(rows ^ first)
    column_words = (columns * _GOLDEN + second) & _MASK
    return fmix32(row_words[..., :, None] ^ column_words[..., None, :])
