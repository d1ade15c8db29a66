"""Tokens with their places in the text, and labels from spans of characters.

The whole text is tokenised once. A token is a label if it holds any character of a span that is to
be learnt, as `transformers` has it (`return_assistant_tokens_mask`). So where a token joins the end of
a prompt with the start of an answer, it is part of the answer: the model has to write it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tis_ray.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
UNCUT = 10**9
"""A `max_length` that no row reaches."""

Places = list[tuple[int, int]]
"""Of each token, its first character and its end; both are the same where it has none of its own."""


def tokens_at(
    tokenizer: PreTrainedTokenizerBase, text: str, special: bool = False
) -> tuple[list[int], Places]:
    """Return the token ids of a text and their places.

    special: add what the tokenizer puts around a text by itself, such as a start token.

    Raises InputError if the tokenizer cannot tell places.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"tokenizer: {type(tokenizer).__name__} cannot tell which characters a token stands for "
            "(it has no tokenizer.json); use its fast version"
        )
    with _whole_places(tokenizer):
        encoding = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
    ids, places = list(encoding["input_ids"]), list(encoding["offset_mapping"])
    if special:
        before, after = special_around(tokenizer)
        ids = before + ids + after
        places = [(0, 0)] * len(before) + places + [(len(text), len(text))] * len(after)
    return ids, places


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str, special: bool = True) -> list[int]:
    """Return the token ids of a text that an answer follows.

    special: with the start token that the tokenizer puts before texts by itself; an end token that it
        puts after them has no place before an answer.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return special_around(tokenizer)[0] + ids if special else ids


def labels_at(ids: Sequence[int], places: Places, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the ids of the tokens that hold characters of `spans`, and -100 for the others.

    spans: in order, and apart.
    """
    labels = [IGNORED] * len(ids)
    waiting = iter(spans)
    span = next(waiting, None)
    for index, (start, end) in enumerate(places):
        while span is not None and span[1] <= start:
            span = next(waiting, None)
        if span is None:
            break
        # A token without characters is a label inside a span; before one only where the text begins.
        inside = span[0] < end if start < end else span[0] < start or span[0] == 0
        if inside and start < span[1]:
            labels[index] = ids[index]
    return labels


@contextmanager
def _whole_places(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Let tokens keep the blanks in their places.

    A byte-level tokenizer's last step cuts them off; without special tokens it does nothing else.
    """
    backend = tokenizer.backend_tokenizer
    last_step = backend.post_processor
    backend.post_processor = None
    try:
        yield
    finally:
        backend.post_processor = last_step


_around: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, tuple[list[int], list[int]]]]
_around = WeakKeyDictionary()
"""Of tokenizers, by the last step that adds them: the tokens before and after a text."""


def special_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer puts before and after a text by itself."""
    last_step = repr(tokenizer.backend_tokenizer.post_processor)
    known = _around.get(tokenizer)
    if known is None or known[0] != last_step:
        known = _around[tokenizer] = last_step, _tried_around(tokenizer)
    return known[1]


def _tried_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    whole: list[int] = list(tokenizer("a")["input_ids"])
    plain: list[int] = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    raise InputError(
        f"tokenizer: {type(tokenizer).__name__} writes a text otherwise once it adds its special "
        "tokens; use template: chat"
    )
