"""A row as a model reads it, in pieces of text: which are learnt, which are special tokens, which are cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tis_ray.data.places import IGNORED, UNCUT
from tis_ray.data.queries import encode_row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tis_ray.data.chat import Template
    from tis_ray.data.rows import Row, Side


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens of one kind.

    trained: they are labels. special: one special token. cut: they are beyond `max_length`.
    """

    text: str
    tokens: int
    trained: bool = False
    special: bool = False
    cut: bool = False


def pieces_of(
    row: Row, side: Side, tokenizer: PreTrainedTokenizerBase, max_length: int, template: Template
) -> list[Piece]:
    """Return a row in pieces, cut ones too. Raises TemplateError if the template does not take it."""
    whole = encode_row(row, side, tokenizer, UNCUT, template)
    ids, labels = whole.input_ids, whole.labels
    trained = [label != IGNORED for label in labels]
    # A query's answer is cut by itself; what a pool row begins with is a prompt like all the rest.
    as_query = side != "pool" or "prompt" in row
    answer = trained.index(True) if as_query and True in trained else len(ids)
    cut = [
        place >= max_length if place < answer else place >= answer + max_length
        for place in range(len(ids))
    ]
    special = _special_tokens(tokenizer)
    # A special token is a piece of its own: its place tells it from its neighbours.
    kinds = [
        (trained[place], cut[place], place if token in special else -1)
        for place, token in enumerate(ids)
    ]
    pieces: list[Piece] = []
    for (is_trained, is_cut, alone), places in groupby(range(len(ids)), key=kinds.__getitem__):
        own = list(places)
        text = (
            str(tokenizer.convert_ids_to_tokens(ids[alone]))
            if alone >= 0
            else _text(tokenizer, ids, own[0], own[-1] + 1)
        )
        pieces.append(Piece(text, len(own), is_trained, alone >= 0, is_cut))
    return pieces


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    added = {place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], first: int, end: int) -> str:
    """Return the text of some tokens as it is after the token before them.

    A decoder may leave out the blank that a text begins with.
    """
    if first:
        before, both = (_decoded(tokenizer, ids[first - 1 : stop]) for stop in (first, end))
        if both.startswith(before):
            return both[len(before) :]
    return _decoded(tokenizer, ids[first:end])


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
