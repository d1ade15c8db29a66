"""Templates for other programs: what `transformers` makes of them is what was trained."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from tests.data.test_mask_cases import EOT, turns, with_template
from tests.data.tokenizers import KINDS
from tis_ray.data import encode_prompt, portable_source
from tis_ray.settings import TemplateConfig

QUESTION = turns("s:Be brief", "u:Hello there")


def theirs(tokenizer: Any, template: Any, **options: Any) -> list[int]:
    """Return a prompt's tokens in a program that knows the exported template alone."""
    other = copy.copy(tokenizer)
    other.chat_template = portable_source(tokenizer, template)
    ids: list[int] = other.apply_chat_template(QUESTION, add_generation_prompt=True, **options)[
        "input_ids"
    ]
    return ids


@pytest.mark.parametrize("template", ["tulu", "chatml", "chat"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_prompt_is_that_of_training(kind: str, template: Any) -> None:
    tokenizer = with_template(kind, EOT)
    assert theirs(tokenizer, template) == encode_prompt(QUESTION, tokenizer, template)


def test_no_prompt_ends_in_the_mark_that_ends_texts() -> None:
    tokenizer = with_template("legacy_llama_bos_eos", EOT)
    for template in ("tulu", "chatml", "chat", "plain"):
        ids = encode_prompt(QUESTION, tokenizer, template)  # type: ignore[arg-type]
        assert tokenizer.eos_token_id not in ids


def test_developers_are_prompted_as_they_were_trained() -> None:
    tokenizer = with_template("byte_level", EOT)
    question = turns("d:Be brief", "u:Hello there")
    other = copy.copy(tokenizer)
    other.chat_template = portable_source(tokenizer, "tulu")
    ids = other.apply_chat_template(question, add_generation_prompt=True)["input_ids"]
    assert ids == encode_prompt(question, tokenizer, "tulu")


@pytest.mark.parametrize("form", ["%d %b %Y", "%A, %-d. %B %y", "%Y-%m-%d %H:%M:%S", "%j"])
def test_the_day_is_that_of_training(form: str) -> None:
    dated = (
        "{%- if strftime_now is defined %}{%- set day = strftime_now('" + form + "') %}{% endif %}"
        "{{ day }}" + EOT
    )
    tokenizer = with_template("byte_level", dated)
    template = TemplateConfig(name="chat")
    assert theirs(tokenizer, template) == encode_prompt(QUESTION, tokenizer, template)
    assert "2024" in tokenizer.decode(theirs(tokenizer, template)) or "%Y" not in form


@pytest.mark.parametrize(
    "value", [True, None, -5, 1.5, 'it\'s "so"\n%} {{ x }} \\ é', [1, {"a": None}], {"b": [False]}]
)
def test_arguments_go_along(value: Any) -> None:
    tokenizer = with_template("byte_level", "{{ mood | tojson }}" + EOT)
    template = TemplateConfig(name="chat", kwargs={"mood": value})
    assert theirs(tokenizer, template) == encode_prompt(QUESTION, tokenizer, template)


def test_all_of_a_tokenizers_templates_go_along() -> None:
    tokenizer = with_template("byte_level", None)
    tokenizer.chat_template = {"default": EOT, "tool_use": "tools: {{ mood }} " + EOT}
    template = TemplateConfig(name="chat", kwargs={"mood": "calm"})
    tools = [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    assert theirs(tokenizer, template) == encode_prompt(QUESTION, tokenizer, template)
    assert tokenizer.decode(theirs(tokenizer, template, tools=tools)).startswith("tools: calm ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenize", True),
        ("chat_template", "x"),
        ("self", 1),
        ("a-b", 1),
        ("1st", 1),
        ("for", 1),
        ("day", {1: 2}),
        ("day", b"x"),
        ("day", float("nan")),
    ],
)
def test_arguments_that_no_template_can_have_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match="kwargs"):
        TemplateConfig(name="chat", kwargs={name: value})


def test_a_day_in_yaml_is_text() -> None:
    given = TemplateConfig(name="chat", kwargs={"date_string": dt.date(2024, 7, 26)})
    assert given.kwargs == {"date_string": "2024-07-26"}


def test_a_template_file_is_found_from_any_folder(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers have other working folders; and a mark of the encoding at its start is no text."""
    (tmp_path / "own.jinja").write_text(EOT, encoding="utf-8-sig")
    monkeypatch.chdir(tmp_path)
    template = TemplateConfig(name="chat", file="own.jinja")
    monkeypatch.chdir("/")
    tokenizer = with_template("byte_level", None)
    asked = encode_prompt(QUESTION, tokenizer, template)
    assert asked == encode_prompt(QUESTION, with_template("byte_level", EOT), "chat")
