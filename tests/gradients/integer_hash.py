"""The hash of `tis_ray.gradients.hashing` written out in Python integers, one word at a time."""

import hashlib

MASK = 0xFFFFFFFF


def fmix32(word: int) -> int:
    word ^= word >> 16
    word = (word * 0x85EBCA6B) & MASK
    word ^= word >> 13
    word = (word * 0xC2B2AE35) & MASK
    return word ^ (word >> 16)


def grid_word(row: int, column: int, first: int, second: int) -> int:
    return fmix32(fmix32(row ^ first) ^ ((column * 0x9E3779B9 + second) & MASK))


def digest_words(text: str) -> list[int]:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4, 8, 12)]
