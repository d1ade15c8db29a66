"""The words that sketches and dropout masks are made of: fixed for ever, and random enough."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.gradients import integer_hash
from tis_ray.gradients import hashing

WORDS = st.integers(0, 2**32 - 1)
GOLDEN_FMIX32 = {
    0: 0x00000000,
    1: 0x514E28B7,
    2: 0x30F4C306,
    0x9E3779B9: 0x92CA2F0E,
    0x7FFFFFFF: 0xF9CC0EA8,
    0x80000000: 0x6D3C65A0,
    0xFFFFFFFF: 0x81F16F39,
}


def test_the_hash_never_changes():
    """Stored features depend on these bits: a change here orphans every feature store."""
    words = torch.tensor(list(GOLDEN_FMIX32))
    assert hashing.fmix32(words).tolist() == list(GOLDEN_FMIX32.values())
    assert [integer_hash.fmix32(word) for word in GOLDEN_FMIX32] == list(GOLDEN_FMIX32.values())
    assert words.tolist() == list(GOLDEN_FMIX32)  # the input is left alone


@given(st.lists(WORDS, min_size=1, max_size=50))
def test_the_torch_hash_equals_the_integer_hash(words):
    found = hashing.fmix32(torch.tensor(words)).tolist()
    assert found == [integer_hash.fmix32(word) for word in words]


@given(
    st.lists(WORDS, min_size=1, max_size=5),
    st.lists(WORDS, min_size=1, max_size=5),
    st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3),
)
def test_a_grid_of_words_equals_the_integer_one(rows, columns, seeds):
    first, second = torch.tensor(seeds).T[..., None]
    found = hashing.grid_words(torch.tensor(rows), torch.tensor(columns), first, second)
    expected = [
        [[integer_hash.grid_word(i, j, *words) for j in columns] for i in rows] for words in seeds
    ]
    assert found.tolist() == expected


@given(st.text(max_size=30))
def test_digests_are_the_first_words_of_blake2b(text):
    assert list(hashing.digest_words(text)) == integer_hash.digest_words(text)
