"""Masks of real chat templates under every kind of tokenizer: equal to transformers' own, or refused.

The templates are those that TRL and axolotl ship. Many of TRL's have `{% generation %}` marks, put in
by hand: there our labels must be transformers' mask. The same templates without their marks show that
what the assistant wrote is found without them.
"""

from __future__ import annotations

import copy
import importlib.util
import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tests.data.tokenizers import KINDS, tokenizer_of
from tests.properties import tries
from tis_ray.data import Message, TemplateError, encode_messages
from tis_ray.data.chat import chat_template
from tis_ray.settings import TemplateConfig

BLOCK = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
SPECIAL_LOOKING = [
    "<table>",
    "<think>",
    "</think>",
    "<|im_end|>",
    "</s>",
    "[INST]",
    "<|assistant|>\n",
]


def _folder(package: str, *parts: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package}: is a test dependency"
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath(*parts)


@cache
def templates() -> dict[str, str]:
    folders = {
        "trl": _folder("trl", "chat_templates"),
        "axolotl": _folder("axolotl", "utils", "chat_templates", "templates"),
    }
    return {
        f"{package}/{path.stem}": path.read_text(encoding="utf-8")
        for package, folder in folders.items()
        for path in sorted(folder.glob("*.jinja"))
    }


MARKED = sorted(name for name, source in templates().items() if BLOCK.search(source))
UNMARKED = sorted(set(templates()) - set(MARKED))
CHAT = TemplateConfig(name="chat", date=date.today())
"""Some templates write the date, and transformers' clock cannot be set."""


def without_marks(source: str) -> str:
    """Return a template without its marks, and with the blanks that they take away."""
    return BLOCK.sub(lambda block: re.sub(r"(end)?generation", "set unused = 1", block[0]), source)


def with_template(kind: str, source: str) -> Any:
    """Return a tokenizer in which the template's marks are tokens, if they look like it."""
    marks = tuple(
        sorted(set(re.findall(r"<[|｜][^<>\s|｜]+[|｜]>|<(?:start|end)_of_turn>", source)))
    )
    tokenizer = copy.copy(tokenizer_of(kind, marks))
    tokenizer.chat_template = source
    return tokenizer


def theirs(messages: list[Message], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return ids and labels by transformers: of each character in its blocks, all of its tokens.

    transformers itself looks up one token of a block's first character and one of its last. Where both
    have one, its mask is the same, but for a last character that is several tokens; where the last has
    none (a newline that a tokenizer drops), it takes all the rest of the dialogue. Tokens are looked up
    by places that keep their blanks.
    """
    chat = chat_template(tokenizer, CHAT)
    turns: list[Any] = list(messages)
    if chat.renderer.parts:
        turns = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    (text,), (blocks,) = render_jinja_template(
        [turns],
        chat_template=tokenizer.chat_template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    backend = tokenizer.backend_tokenizer
    last_step, backend.post_processor = backend.post_processor, None
    try:
        out = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        mask = tokenizer.apply_chat_template(
            turns, return_assistant_tokens_mask=True, return_dict=True
        )["assistant_masks"]
    finally:
        backend.post_processor = last_step
    ids, places = out["input_ids"], out["offset_mapping"]
    meant = {c for low, high in blocks for c in range(low, high)}
    wanted = {index for index, place in enumerate(places) if meant & set(range(*place))}
    wanted |= {out.char_to_token(c) for c in meant} - {None}
    ends = [out.char_to_token(c) for low, high in blocks if low < high for c in (low, high - 1)]
    if None not in ends and 0 not in ends:
        assert {index for index, own in enumerate(mask) if own} <= wanted
    return ids, [token if index in wanted else -100 for index, token in enumerate(ids)]


texts = st.lists(
    st.one_of(
        st.sampled_from(SPECIAL_LOOKING),
        st.text(alphabet=st.sampled_from("ab cé東🎉\n{}%'\"1"), max_size=12),
    ),
    max_size=4,
).map("".join)


@st.composite
def dialogues(draw: st.DrawFn) -> list[Message]:
    """Questions and answers in turn, which nearly every template takes."""
    turns: list[Message] = []
    for _ in range(draw(st.integers(1, 3))):
        turns.append({"role": "user", "content": "Q" + draw(texts)})
        turns.append({"role": "assistant", "content": draw(texts)})
    return turns


@pytest.mark.parametrize("name", sorted(templates()))
def test_no_template_refuses_a_plain_dialogue(name: str) -> None:
    """What follows says nothing of a dialogue that is refused, so it must not be every one."""
    plain: list[Message] = [
        {"role": "user", "content": "Question"},
        {"role": "assistant", "content": "Paris"},
    ]
    for kind in KINDS:
        for source in (templates()[name], without_marks(templates()[name])):
            encoded = encode_messages(plain * 2, with_template(kind, source), 100_000, CHAT)
            assert any(label >= 0 for label in encoded["labels"])


@pytest.mark.parametrize("name", MARKED)
@tries(24)
@given(messages=dialogues(), kind=st.sampled_from(sorted(KINDS)))
def test_labels_are_transformers_own_mask_where_the_template_has_marks(
    name: str, messages: list[Message], kind: str
) -> None:
    tokenizer = with_template(kind, templates()[name])
    try:
        encoded = encode_messages(messages, tokenizer, 100_000, CHAT)
    except TemplateError:
        return
    ids, labels = theirs(messages, tokenizer)
    assert encoded["input_ids"] == ids
    assert encoded["labels"] == labels


@pytest.mark.parametrize("name", sorted(templates()))
@tries(24)
@given(messages=dialogues(), kind=st.sampled_from(sorted(KINDS)))
def test_without_marks_the_answers_are_found_and_nothing_else(
    name: str, messages: list[Message], kind: str
) -> None:
    tokenizer = with_template(kind, without_marks(templates()[name]))
    chat = chat_template(tokenizer, CHAT)
    try:
        dialogue = chat.dialogue(messages)
    except TemplateError:
        return
    place = 0
    for answer, message in zip(dialogue.answers, messages[1::2], strict=True):
        written = dialogue.text[answer.start : answer.end]
        said = message["content"].split("</think>")[-1].strip()
        assert said.strip() in written
        between = dialogue.text[place : answer.start]
        question = messages[answer.turn - 1]["content"].strip()
        assert question in between
        place = answer.end
    encoded = encode_messages(messages, tokenizer, 100_000, CHAT)
    turns = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    asked = turns if chat.renderer.parts else messages
    assert encoded["input_ids"] == tokenizer.apply_chat_template(asked)["input_ids"]
