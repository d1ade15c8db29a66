"""A row in pieces: all of it is there once, and what is learnt and cut is what encoding says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tokenizers import decoders

from tests.data.test_mask_cases import EOT, turns, with_template
from tests.data.tokenizers import KINDS
from tis_ray.data import encode_dialogue, encode_query_dialogue, encode_row
from tis_ray.data.pieces import pieces_of
from tis_ray.data.places import IGNORED
from tis_ray.settings import TemplateConfig

MESSAGES = turns("u:What is it? 😀 naïve", "a:Paris  it is", "u:And then some more", "a:no\n é")
TEMPLATES = ["tulu", "chat", "chatml"]


def row_of(messages: Any, **more: Any) -> Any:
    return {"id": "x", "source": "x", "messages": messages, **more}


@pytest.mark.parametrize("max_length", [20, 60, 10_000])
@pytest.mark.parametrize("side", ["pool", "query"])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_pieces_count_what_encoding_does(
    kind: str, template: Any, side: Any, max_length: int
) -> None:
    tokenizer, section = with_template(kind, EOT), TemplateConfig(name=template)
    row = row_of(MESSAGES)
    whole = encode_row(row, side, tokenizer, 10**6, section)
    if side == "pool":
        cut = encode_dialogue(MESSAGES, tokenizer, max_length, section)
    else:
        cut = encode_query_dialogue(row, tokenizer, max_length, section)
    pieces = pieces_of(row, side, tokenizer, max_length, section)
    assert sum(piece.tokens for piece in pieces) == whole.tokens
    assert sum(p.tokens for p in pieces if not p.cut) == len(cut.input_ids)
    learnt = sum(label != IGNORED for label in cut.labels)
    assert sum(p.tokens for p in pieces if p.trained and not p.cut) == learnt


LLAMA = [
    decoders.Replace("▁", " "),
    decoders.ByteFallback(),
    decoders.Fuse(),
    decoders.Strip(" ", 1, 0),
]
"""How tokenizers of this kind decode: the blank that a text begins with is lost."""


@pytest.mark.parametrize("kind", ["byte_level", "metaspace_first", "legacy_llama_bos_eos"])
def test_the_text_is_all_there(kind: str) -> None:
    tokenizer: Any = copy.deepcopy(with_template(kind, EOT))
    if kind != "byte_level":
        tokenizer.backend_tokenizer.decoder = decoders.Sequence(LLAMA)
    pieces = pieces_of(row_of(MESSAGES), "pool", tokenizer, 10_000, TemplateConfig(name="chat"))
    text = "".join(piece.text for piece in pieces)
    for turn in MESSAGES:
        assert turn["content"] in text
    said = "".join(piece.text for piece in pieces if piece.trained)
    assert "Paris" in said
    assert "What" not in said


def test_special_tokens_stand_alone_and_are_named() -> None:
    tokenizer = with_template("byte_level", EOT)
    pieces = pieces_of(row_of(MESSAGES), "pool", tokenizer, 10_000, TemplateConfig())
    ends = [piece for piece in pieces if piece.special and piece.trained]
    assert [(piece.text, piece.tokens) for piece in ends] == [(tokenizer.eos_token, 1)] * 2


def test_the_two_parts_of_a_query_are_cut_by_themselves() -> None:
    tokenizer = with_template("byte_level", EOT)
    row = row_of([], prompt="p " * 50, label="l " * 50)
    pieces = pieces_of(row, "query", tokenizer, 10, TemplateConfig())
    assert [(p.trained, p.cut) for p in pieces if not p.special] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]
