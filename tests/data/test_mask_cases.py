"""Labels of single dialogues that real templates and tokenizers get wrong when masks are guessed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.data.tokenizers import tokenizer_of
from tis_ray.data import (
    Message,
    TemplateError,
    encode_messages,
    encode_prompt,
    encode_query_row,
    end_marks,
    end_tokens,
)
from tis_ray.data.chat import chat_template
from tis_ray.errors import InputError
from tis_ray.settings import TemplateConfig

MARKS = ("<|end|>", "<|user|>", "<|assistant|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>")
ENDING = (
    "{% for m in messages %}{{'<|'+m.role+'|>'+m.content+'<|end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|assistant|>'}}{% else %}{{eos_token}}{% endif %}"
)
SPACED = (
    "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} "
    "{% else %}ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
EOT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ENDLESS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TOOLS = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def with_template(kind: str, template: str | None) -> Any:
    tokenizer = copy.copy(tokenizer_of(kind, MARKS))
    tokenizer.chat_template = template
    return tokenizer


def turns(*texts: str) -> list[Message]:
    roles = {"s": "system", "u": "user", "a": "assistant", "d": "developer", "t": "tool"}
    return [{"role": roles[text[0]], "content": text[2:]} for text in texts]


def learnt(tokenizer: Any, encoded: Any) -> str:
    return str(tokenizer.decode([label for label in encoded["labels"] if label != -100]))


def test_a_mark_that_ends_every_rendering_belongs_to_the_last_answer() -> None:
    tokenizer = with_template("byte_level", ENDING)
    messages = turns("u:Hello", "a:Paris", "u:SECRET", "a:no")
    encoded = encode_messages(messages, tokenizer, 512, "chat")
    assert learnt(tokenizer, encoded) == "Paris<|end|>no<|end|></s>"


def test_a_token_that_joins_prompt_and_answer_is_part_of_the_answer() -> None:
    tokenizer = with_template("byte_level", SPACED)
    messages = turns("u:Hello there", "a:Paris")
    encoded = encode_messages(messages, tokenizer, 512, "chat")
    assert learnt(tokenizer, encoded) == " Paris</s>"
    query = encode_query_row({"messages": messages}, tokenizer, 512, "chat")
    assert query == encoded


def test_a_normaliser_that_drops_newlines_moves_no_label_under_tulu() -> None:
    tokenizer = with_template("flat_newlines", None)
    messages = turns("u:Hello there", "a:Paris is", "u:the capital", "a:of France")
    encoded = encode_messages(messages, tokenizer, 512)
    said = learnt(tokenizer, encoded)
    assert "Paris is" in said.replace("▁", " ")
    assert "of France" in said.replace("▁", " ")
    assert "user" not in said
    assert "capital" not in said
    assert "assistant" not in said


@pytest.mark.parametrize("kind", ["metaspace_first", "metaspace_always", "legacy_llama_bos_eos"])
@pytest.mark.parametrize("template", [ENDING, SPACED, EOT])
def test_pool_and_query_rows_have_the_same_tokens(kind: str, template: str) -> None:
    tokenizer = with_template(kind, template)
    messages = turns("u:Hello", "a:Paris")
    pool = encode_messages(messages, tokenizer, 512, "chat")
    query = encode_query_row({"messages": messages}, tokenizer, 512, "chat")
    assert query["input_ids"] == pool["input_ids"]
    assert query["labels"] == pool["labels"]


@pytest.mark.parametrize("template", [ENDING, SPACED, EOT, ENDLESS])
def test_a_dialogue_may_begin_with_the_assistant(template: str) -> None:
    tokenizer = with_template("byte_level", template)
    encoded = encode_messages(turns("a:Paris", "u:the", "a:no"), tokenizer, 512, "chat")
    said = learnt(tokenizer, encoded)
    assert "Paris" in said
    assert "no" in said
    assert "the" not in said


def test_an_answer_ends_at_the_templates_mark_whatever_the_eos() -> None:
    tokenizer = with_template("byte_level", EOT)
    mark = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert end_tokens(tokenizer, "chat") == sorted([tokenizer.eos_token_id, mark])
    plain = with_template("byte_level", EOT.replace("<|eot_id|>", "###"))
    assert end_marks(plain, "chat").texts == ["###"]
    endless = end_marks(with_template("byte_level", ENDLESS), "chat")
    assert endless.texts == []
    assert endless.tokens == [tokenizer.eos_token_id]


def test_turns_may_be_left_out_of_training() -> None:
    tokenizer = with_template("byte_level", ENDING)
    messages = turns("u:Hello", "a:Paris is the", "u:the", "a:no")
    messages[1]["trained"] = []
    encoded = encode_messages(messages, tokenizer, 512, "chat")
    assert learnt(tokenizer, encoded) == "no<|end|></s>"
    messages[1]["trained"] = [(0, 5)]
    encoded = encode_messages(messages, tokenizer, 512, "chat")
    assert learnt(tokenizer, encoded) == "Parisno<|end|></s>"
    # Blanks at both ends, which these templates cut off, and the end mark with the last character.
    messages[1] |= {"content": "  Paris is ", "trained": [(8, 11)]}
    encoded = encode_messages(messages, with_template("byte_level", EOT), 512, "chat")
    assert learnt(tokenizer, encoded) == " is<|eot_id|>no<|eot_id|>"
    assert learnt(tokenizer, encode_messages(messages, tokenizer, 512)) == " is</s>\nno</s>"


def test_calls_of_tools_are_answers_where_the_template_has_them() -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": {"x": 1}}}
    messages = turns("u:Hello", "a:", "t:21", "a:no")
    messages[1]["tool_calls"] = [call]
    tokenizer = with_template("byte_level", TOOLS)
    said = learnt(tokenizer, encode_messages(messages, tokenizer, 512, "chat"))
    assert said == '<call>{"name": "find", "arguments": {"x": 1}}</call><|end|>no<|end|>'
    with pytest.raises(TemplateError, match=r"leaves out the tool calls of messages\[1\]"):
        encode_messages(messages, with_template("byte_level", ENDING), 512, "chat")
    with pytest.raises(TemplateError, match="no form for tool calls"):
        encode_messages(messages, tokenizer, 512, "tulu")


def test_a_turn_that_the_template_drops_is_refused() -> None:
    silent = "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    with pytest.raises(TemplateError, match=r"leaves out messages\[0\] \(system\)"):
        encode_messages(
            turns("s:be", "u:a", "a:b"), with_template("byte_level", silent), 64, "chat"
        )


def test_system_turns_and_neighbours_can_be_made_to_fit() -> None:
    strict = (
        "{% for m in messages %}{% if m.role not in ['user', 'assistant'] or (m.role == 'user') != "
        "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    )
    tokenizer = with_template("byte_level", strict)
    messages = turns("s:be brief", "u:one", "u:two", "a:first", "a:second", "u:three")
    with pytest.raises(TemplateError, match="must alternate"):
        encode_messages(messages, tokenizer, 512, "chat")
    template = TemplateConfig(name="chat", system="prepend", merge=True)
    encoded = encode_messages(messages, tokenizer, 512, template)
    assert tokenizer.decode(encoded["input_ids"]) == (
        "<|user|>be brief\n\none\n\ntwo<|end|><|assistant|>first\n\nsecond<|end|><|user|>three<|end|>"
    )
    assert learnt(tokenizer, encoded) == "first\n\nsecond<|end|>"
    messages[3]["trained"] = []
    assert learnt(tokenizer, encode_messages(messages, tokenizer, 512, template)) == "second<|end|>"


def test_arguments_and_the_day_of_a_template_are_fixed() -> None:
    dated = "{{ strftime_now('%d %b %Y') }} {{ mood }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    template = TemplateConfig(name="chat", kwargs={"mood": "calm"})
    tokenizer = with_template("byte_level", dated)
    encoded = encode_messages(turns("u:a", "a:b"), tokenizer, 512, template)
    assert tokenizer.decode(encoded["input_ids"]).startswith("26 Jul 2024 calm<|user|>")


def test_chatml_is_there_for_models_without_a_template() -> None:
    tokenizer = with_template("byte_level", None)
    with pytest.raises(InputError, match="use template: tulu or template: chatml"):
        encode_messages(turns("u:a", "a:b"), tokenizer, 64, "chat")
    encoded = encode_messages(turns("u:a", "a:b"), tokenizer, 64, "chatml")
    assert learnt(tokenizer, encoded) == "b<|im_end|>"
    assert (
        encode_prompt(turns("u:a"), tokenizer, "chatml")
        == [
            token
            for token, label in zip(encoded["input_ids"], encoded["labels"], strict=True)
            if label == -100
        ][:-1]
    )


def test_chatml_ends_at_the_eos_where_its_mark_is_no_token() -> None:
    tokenizer = copy.copy(tokenizer_of("byte_level"))
    encoded = encode_messages(turns("u:a", "a:b"), tokenizer, 64, "chatml")
    assert learnt(tokenizer, encoded) == "b</s>"
    assert end_marks(tokenizer, "chatml").tokens == [tokenizer.eos_token_id]
    assert end_marks(tokenizer, "chatml").texts == []


def test_a_tokenizer_without_places_is_refused_by_name() -> None:
    class Slow:
        is_fast, truncation_side, eos_token = False, "right", "</s>"

    with pytest.raises(InputError, match="Slow cannot tell which characters"):
        encode_messages(turns("u:a", "a:b"), Slow(), 64)  # type: ignore[arg-type]


HEADER, BODY = "<|{{ m.role }}|>", "{{ m.content }}<|end|>"
STYLES = {
    "indices, without a name": (
        "{% for i in range(messages|length) %}<|{{ messages[i].role }}|>{{ messages[i].content }}"
        "<|end|>{% endfor %}"
    ),
    "a namespace": (
        "{% set ns = namespace(m=none) %}{% for i in range(messages|length) %}"
        "{% set ns.m = messages[i] %}<|{{ ns.m.role }}|>{{ ns.m.content }}<|end|>{% endfor %}"
    ),
    "text gathered in a namespace": (
        "{% set ns = namespace(out='') %}{% for m in messages %}"
        "{% set ns.out = ns.out ~ '<|' ~ m.role ~ '|>' ~ m.content ~ '<|end|>' %}{% endfor %}{{ ns.out }}"
    ),
    "pairs": (
        "{% for u, a in messages|batch(2) %}<|user|>{{ u.content }}<|end|><|assistant|>"
        "{{ a.content }}<|end|>{% endfor %}"
    ),
    "a macro that calls itself": (
        "{% macro w(i) %}{% if i < messages|length %}{% set m = messages[i] %}" + HEADER + BODY + ""
        "{{ w(i + 1) }}{% endif %}{% endmacro %}{{ w(0) }}"
    ),
    "the last turn apart": (
        "{% for m in messages[:-1] %}" + HEADER + BODY + "{% endfor %}"
        "<|{{ messages[-1].role }}|>{{ messages[-1].content }}<|end|>"
    ),
    "the next header at once": (
        "{% for m in messages %}" + BODY + "{% if loop.nextitem is defined %}"
        "<|{{ loop.nextitem.role }}|>{% endif %}{% endfor %}"
    ),
    "the end mark with the next turn": (
        "{% for m in messages %}{% if not loop.first %}<|end|>{% endif %}" + HEADER + ""
        "{{ m.content }}{% endfor %}<|end|>"
    ),
    "a turn of its own at the end": (
        "{% for m in messages + [{'role': 'user', 'content': 'Go on.'}] %}" + HEADER + BODY + ""
        "{% endfor %}"
    ),
    "a turn of its own in the middle": (
        "{% for m in messages[:2] + [{'role': 'user', 'content': 'Go on.'}] + messages[2:] %}"
        + HEADER
        + BODY
        + "{% endfor %}"
    ),
    "a turn written anew": (
        "{% for m in messages[:2] + [{'role': 'user', 'content': messages[2].content + ' /short'}] "
        "+ messages[3:] %}" + HEADER + BODY + "{% endfor %}"
    ),
    "an answer written anew": (
        "{% for m in messages[:-1] + [{'role': messages[-1].role, 'content': messages[-1].content}] %}"
        + HEADER
        + BODY
        + "{% endfor %}"
    ),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("prompt", ["", "{% if add_generation_prompt %}<|assistant|>{% endif %}"])
def test_answers_are_found_however_the_template_walks_the_dialogue(style: str, prompt: str) -> None:
    tokenizer = with_template("byte_level", STYLES[style] + prompt)
    messages = turns("u:Hello", "a:Paris", "u:SECRET", "a:no")
    said = learnt(tokenizer, encode_messages(messages, tokenizer, 512, "chat"))
    assert said == "Paris<|end|>no<|end|>"


def test_turns_in_another_order_are_learnt_all_the_same() -> None:
    tokenizer = with_template(
        "byte_level", "{% for m in messages|reverse %}" + HEADER + BODY + "{% endfor %}"
    )
    messages = turns("u:Hello", "a:Paris", "u:SECRET", "a:no")
    said = learnt(tokenizer, encode_messages(messages, tokenizer, 512, "chat"))
    assert said == "no<|end|>Paris<|end|>"


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        (
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "refuses the dialogue: maximum recursion",
        ),
        ("{{ 'a' * 10**14 }}", "refuses the dialogue: MemoryError"),
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            "does not end",
        ),
        ("{% for %}", "is not valid"),
        (
            "{% for i in [1] %}" * 30 + "x" + "{% endfor %}" * 30,
            "is not valid: too many statically",
        ),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "is not valid: maximum recursion"),
    ],
)
def test_a_template_that_is_no_program_for_this_is_one_line(program: str, fault: str) -> None:
    tokenizer = with_template("byte_level", program + EOT)
    with pytest.raises(InputError, match=fault) as raised:
        encode_messages(turns("u:a", "a:b"), tokenizer, 64, "chat")
    assert isinstance(raised.value, TemplateError) == ("refuses" in fault)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "template", [ENDLESS, SPACED, "{% for m in messages %}{{ m.content }}#{% endfor %}"]
)
def test_time_grows_with_the_number_of_turns(template: str) -> None:
    tokenizer = with_template("byte_level", template.split("{% if add_generation_prompt")[0])
    chat = chat_template(tokenizer, TemplateConfig(name="chat"))
    drawn = 0
    render = type(chat.renderer).render

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal drawn
        drawn += 1
        return render(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(chat.renderer), "render", counted)
        chat.dialogue(turns(*["u:a", "a:b"] * 50))
    assert drawn <= 6


def test_the_papers_template_can_be_given_other_system_turns() -> None:
    tokenizer = with_template("byte_level", None)
    messages = turns("s:be brief", "u:one", "u:two", "a:first", "a:second")
    template = TemplateConfig(name="tulu", system="prepend", merge=True)
    encoded = encode_messages(messages, tokenizer, 512, template)
    text = "<|user|>\nbe brief\n\none\n\ntwo\n<|assistant|>\nfirst\n\nsecond</s>"
    assert tokenizer.decode(encoded["input_ids"]) == text
    assert encode_query_row({"messages": messages}, tokenizer, 512, template) == encoded
    prompt = encode_prompt(messages[:3], tokenizer, template)
    assert encoded["input_ids"][: len(prompt)] == prompt
    dropped = TemplateConfig(name="tulu", system="drop")
    assert "brief" not in tokenizer.decode(encode_prompt(messages[:3], tokenizer, dropped))
