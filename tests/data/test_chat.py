"""Tokens and labels: equal to the paper's code under `tulu`, and sound masks under `chat`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from tests.properties import tries
from tis_ray.data import (
    TULU_JINJA,
    Message,
    TemplateError,
    count_response_tokens,
    encode_messages,
    encode_prompt,
    encode_query,
    encode_query_row,
    end_tokens,
    format_tulu,
    plain_text,
    query_text,
)
from tis_ray.data.rendering import Renderer
from tis_ray.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden" / "less"
TOKENIZATION = json.loads((GOLDEN / "tokenization.json").read_text(encoding="utf-8"))
TOKENIZER = AutoTokenizer.from_pretrained(GOLDEN / "tokenizer")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Qwen3: the last answer gets a reasoning block, earlier ones lose it.
REASONING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Llama 2: the start token is in the template, system turns are refused.
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}"
    "{% else %}{{ raise_exception('no system turn') }}{% endif %}{% endfor %}"
)
# Some templates move the system text to the last user turn, so that no prefix stays as it was.
MOVING = (
    "{% for m in messages %}{% if m.role != 'system' %}"
    "{{ messages[0].content if loop.index == messages | length - 1 }}"
    "[{{ m.role }}]{{ m.content }};{% endif %}{% endfor %}"
)
# What is done to an answer here is not known to keep its marks.
SHOUTING = "{% for m in messages %}[{{ m.role }}]{{ '%s!' | format(m.content) }};{% endfor %}"


def tokenizer_with(template: str | None = None, bos: bool = False, eos: bool = True) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "tokenizer")
    tokenizer.chat_template = template
    if bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    if not eos:
        tokenizer.eos_token = None
    return tokenizer


WITH_BOS = tokenizer_with(bos=True)


def dialogue(*turns: str) -> list[Message]:
    """`u:text` and so on, one string a turn."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[t[0]], "content": t[2:]} for t in turns]


def labelled_text(tokenizer: Any, encoded: Any) -> str:
    return str(tokenizer.decode([label for label in encoded["labels"] if label != -100]))


def plain_reference(messages: Any, tokenizer: Any, max_length: int) -> dict[str, list[int]]:
    """The paper's rule, literally: tokenise every prefix of the dialogue anew."""

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, truncation=True, max_length=max_length)["input_ids"])

    ids = tokens(format_tulu(messages, tokenizer.eos_token).strip())
    labels = list(ids)
    for index, turn in enumerate(messages):
        if turn["role"] == "assistant":
            continue
        before = format_tulu(messages[:index], tokenizer.eos_token)
        through = format_tulu(messages[: index + 1], tokenizer.eos_token)
        if [t["role"] for t in messages[index + 1 : index + 2]] == ["assistant"]:
            through += "<|assistant|>\n"
        for place in range(len(tokens(before)) if index else 0, len(tokens(through))):
            if place < len(labels):
                labels[place] = -100
    return {"input_ids": ids, "labels": labels}


@pytest.mark.parametrize("max_length", [2048, 96])
@pytest.mark.parametrize("case", TOKENIZATION["messages"])
def test_dialogues_encode_as_in_the_papers_code(case: Any, max_length: int) -> None:
    assert encode_messages(case["messages"], TOKENIZER, max_length) == case[f"max{max_length}"]


@pytest.mark.parametrize("max_length", [2048, 96])
@pytest.mark.parametrize("case", TOKENIZATION["query"])
def test_queries_encode_as_in_the_papers_code(case: Any, max_length: int) -> None:
    expected = case[f"max{max_length}"]
    assert encode_query(case["prompts"], case["labels"], TOKENIZER, max_length) == expected
    row = {"id": "q", "messages": [], "prompt": case["prompts"], "label": case["labels"]}
    assert encode_query_row(row, TOKENIZER, max_length) == expected


dialogues = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant"]),
            "content": st.text(alphabet=st.sampled_from("ab \n<|>é東s/user"), max_size=30),
        }
    ),
    min_size=1,
    max_size=6,
)


@tries(150)
@given(messages=dialogues, max_length=st.integers(2, 60), bos=st.booleans())
def test_mask_equals_the_literal_rule(messages: Any, max_length: int, bos: bool) -> None:
    tokenizer = WITH_BOS if bos else TOKENIZER
    encoded = encode_messages(messages, tokenizer, max_length)
    assert encoded == plain_reference(messages, tokenizer, max_length)
    assert len(encoded["input_ids"]) == len(encoded["labels"]) <= max_length
    pairs = zip(encoded["input_ids"], encoded["labels"], strict=True)
    assert all(label in (-100, token) for token, label in pairs)


def test_labels_are_the_answers_with_their_end_tokens() -> None:
    messages = dialogue("s:be brief", "u:one", "a: first ", "u:two", "a:second", "u:three")
    text = labelled_text(TOKENIZER, encode_messages(messages, TOKENIZER, 2048))
    assert text == "first</s>\nsecond</s>\n"


def test_cut_off_answers_leave_nothing_to_learn() -> None:
    encoded = encode_messages(dialogue("u:" + "long " * 100, "a:short"), TOKENIZER, 32)
    assert len(encoded["input_ids"]) == 32
    assert count_response_tokens(encoded["labels"]) == 0


def test_count_leaves_out_the_first_label() -> None:
    assert count_response_tokens([5, -100, 6, 7]) == 2
    assert count_response_tokens([5]) == 0
    assert count_response_tokens([]) == 0


def test_a_start_token_is_masked_and_stands_once() -> None:
    encoded = encode_messages(dialogue("u:hi", "a:yo"), WITH_BOS, 64)
    assert encoded["input_ids"].count(WITH_BOS.bos_token_id) == 1
    assert labelled_text(WITH_BOS, encoded) == "yo</s>"
    query = encode_query("<|user|>\nhi\n<|assistant|>\n", "yo", WITH_BOS, 64)
    assert query == encoded


@pytest.mark.parametrize("template", ["tulu", "chat"])
def test_a_dialogue_is_rendered_and_tokenised_once(
    template: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_with(CHATML)
    called: list[str] = []
    encode, render = type(tokenizer).__call__, Renderer.render

    def encoding(self: Any, text: str, **options: Any) -> Any:
        called.append("encode")
        return encode(self, text, **options)

    def rendering(self: Renderer, *args: Any, **options: Any) -> Any:
        called.append("render")
        return render(self, *args, **options)

    encode_messages(dialogue("u:q", "a:a"), tokenizer, 64, template)  # what is known once
    monkeypatch.setattr(type(tokenizer), "__call__", encoding)
    monkeypatch.setattr(Renderer, "render", rendering)
    encode_messages(dialogue("u:question", "a:answer") * 50, tokenizer, 100_000, template)
    assert called.count("encode") <= 3  # the text; under tulu, what is put around a text
    assert called.count("render") == (template == "chat")


def test_query_text_stops_where_the_last_answer_begins() -> None:
    messages = dialogue("u:one", "a:first", "u:two", "a: second \n", "u:ignored")
    prompt, label = query_text(messages, TOKENIZER)
    assert prompt == "<|user|>\none\n<|assistant|>\nfirst</s>\n<|user|>\ntwo\n<|assistant|>\n"
    assert label == "second"
    encoded = encode_query_row({"messages": messages}, TOKENIZER, 256)
    assert encoded == encode_query(prompt, label, TOKENIZER, 256)
    assert labelled_text(TOKENIZER, encoded) == "second</s>"


@pytest.mark.parametrize("template", [CHATML, REASONING])
def test_chat_labels_are_the_answers_through_their_end_mark(template: str) -> None:
    tokenizer = tokenizer_with(template)
    messages = dialogue("s:be brief", "u:one", "a:first", "u:two", "a:second", "u:three")
    encoded = encode_messages(messages, tokenizer, 2048, "chat")
    assert labelled_text(tokenizer, encoded) == "first<|im_end|>second<|im_end|>"
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(encoded["input_ids"]) == text


def test_chat_learns_what_the_template_writes_for_the_answer() -> None:
    tokenizer = tokenizer_with(REASONING)
    messages = dialogue("u:one", "a:first", "u:two", "a:second")
    encoded = encode_messages(messages, tokenizer, 2048, "chat")
    expected = "first<|im_end|><think>\n\n</think>\n\nsecond<|im_end|>"
    assert labelled_text(tokenizer, encoded) == expected
    query = encode_query_row({"messages": messages}, tokenizer, 2048, "chat")
    assert labelled_text(tokenizer, query) == "<think>\n\n</think>\n\nsecond<|im_end|>"


@pytest.mark.parametrize("template", [CHATML, BRACKETS])
def test_chat_query_is_the_dialogue_cut_in_two(template: str) -> None:
    tokenizer = tokenizer_with(template, bos=True)
    messages = dialogue("u:one", "a:first", "u:two", "a:second")
    row = encode_messages(messages, tokenizer, 2048, "chat")
    query = encode_query_row({"messages": messages}, tokenizer, 2048, "chat")
    whole = tokenizer.decode(row["input_ids"]).rstrip()
    assert tokenizer.decode(query["input_ids"]) == whole
    prompt, label = query_text(messages, tokenizer, "chat")
    assert label == "second"
    assert whole.startswith(prompt)
    assert query["input_ids"].count(tokenizer.bos_token_id) == (template == BRACKETS)


def test_chat_masks_a_row_whose_answer_is_cut_off() -> None:
    tokenizer = tokenizer_with(CHATML)
    messages = dialogue("u:" + "long " * 50, "a:answer")
    encoded = encode_messages(messages, tokenizer, 24, "chat")
    assert len(encoded["input_ids"]) == 24
    assert count_response_tokens(encoded["labels"]) == 0


def test_the_template_in_jinja_is_the_template() -> None:
    """For programs that know templates in this form alone."""
    tokenizer = tokenizer_with(TULU_JINJA)
    for turns in (["u: one "], ["s:be brief", "u:one", "a:first\n", "u:two"]):
        messages = dialogue(*turns)
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        assert text == format_tulu(messages, tokenizer.eos_token)
        asked = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert asked == text + "<|assistant|>\n"


def test_plain_text_has_no_marks_and_examples_end_in_a_blank_line() -> None:
    messages = dialogue("s:be brief ", "u: one", "a:first\n", "u:two")
    assert plain_text(messages) == "be brief\none\nfirst\n\ntwo\n"
    row = {"messages": [*messages, *dialogue("a: second", "u:ignored")]}
    encoded = encode_query_row(row, TOKENIZER, 256, "plain")
    assert encoded == encode_query(plain_text(messages), "second", TOKENIZER, 256)
    assert labelled_text(TOKENIZER, encoded) == "second</s>"


def test_plain_rows_of_the_papers_query_files_lose_their_template() -> None:
    prompt = format_tulu(dialogue("u:one"), "</s>") + "<|assistant|>\n"
    row = {"prompt": prompt, "label": " two", "messages": dialogue("u:one", "a: two")}
    encoded = encode_query_row(row, TOKENIZER, 256, "plain")
    assert encoded == encode_query("one\n", " two", TOKENIZER, 256)


@pytest.mark.parametrize("template", ["tulu", "chat", "plain"])
def test_a_prompt_is_what_stands_before_the_answer_of_a_query(template: Any) -> None:
    tokenizer = tokenizer_with(CHATML, bos=True)
    messages = dialogue("u:one", "a:first", "u:two")
    prompt = encode_prompt(messages, tokenizer, template)
    row = {"messages": [*messages, *dialogue("a:second")]}
    query = encode_query_row(row, tokenizer, 256, template)
    assert prompt == [
        t for t, label in zip(query["input_ids"], query["labels"], strict=True) if label == -100
    ]


def test_answers_end_at_the_eos_and_at_the_chat_templates_own_mark() -> None:
    tokenizer = tokenizer_with(CHATML)
    eos = tokenizer.eos_token_id
    assert end_tokens(tokenizer, "chat") == [eos]  # its mark is ordinary text here
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    mark = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end_tokens(tokenizer, "chat") == sorted([eos, mark])
    assert end_tokens(tokenizer, "tulu") == end_tokens(tokenizer, "plain") == [eos]


def test_chat_needs_a_template() -> None:
    with pytest.raises(InputError, match="no chat template; use template: tulu"):
        encode_messages(dialogue("u:a", "a:b"), tokenizer_with(), 64, "chat")


def test_a_text_that_the_template_moves_is_no_answer() -> None:
    messages = dialogue("s:system", "u:one", "a:first", "u:two", "a:second")
    encoded = encode_messages(messages, tokenizer_with(MOVING), 640, "chat")
    assert labelled_text(TOKENIZER, encoded) == "first;second;"


@pytest.mark.parametrize(
    ("template", "found"), [(BRACKETS, "no system turn"), (SHOUTING, "leaves out messages")]
)
def test_a_dialogue_the_template_cannot_take_is_one_row_s_error(template: str, found: str) -> None:
    messages = dialogue("s:system", "u:one", "a:first", "u:two", "a:second")
    with pytest.raises(TemplateError, match=found) as error:
        encode_messages(messages, tokenizer_with(template), 64, "chat")
    assert "\n" not in str(error.value)


def test_bad_arguments_are_one_line_errors() -> None:
    left = tokenizer_with()
    left.truncation_side = "left"
    messages = dialogue("u:a", "a:b")
    with pytest.raises(InputError, match="truncation_side is 'left'"):
        encode_messages(messages, left, 64)
    with pytest.raises(InputError, match="no eos token"):
        encode_messages(messages, tokenizer_with(eos=False), 64)
    with pytest.raises(InputError, match="the list is empty"):
        encode_messages([], TOKENIZER, 64)
    with pytest.raises(InputError, match="role 'tool' is not one of"):
        encode_messages([Message(role="tool", content="x")], TOKENIZER, 64)
    with pytest.raises(InputError, match="no assistant turn"):
        query_text(dialogue("u:a"), TOKENIZER)
