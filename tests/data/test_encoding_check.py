"""What a study sees of its encoding before it computes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.data.test_mask_cases import ENDING, ENDLESS, EOT, SPACED, turns, with_template
from tests.data.tokenizers import KINDS
from tis_ray.data import Row, places
from tis_ray.data.encoding_check import encoding_problems
from tis_ray.settings import TemplateConfig

CHAT = TemplateConfig(name="chat")
TULU = TemplateConfig()
MODEL_THINKS = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is not defined %}<think>{% endif %}"
    "{% endif %}"
)


def rows(*dialogues: list[Any]) -> list[Row]:
    return [
        {"id": f"r{number}", "source": "x", "messages": messages}
        for number, messages in enumerate(dialogues)
    ]


SOME = rows(
    turns("u:What is the capital of France?", "a:Paris is the capital of France."),
    turns("a:A greeting that comes first", "u:Say something else", "a:Something else altogether"),
)


@pytest.mark.parametrize("template", [ENDING, EOT])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_is_said_where_all_is_well(kind: str, template: str) -> None:
    tokenizer = with_template(kind, template)
    assert encoding_problems(SOME, tokenizer, CHAT) == []


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"word_pieces"}))
def test_the_papers_template_is_well_with_every_tokenizer(kind: str) -> None:
    told = [p for p in encoding_problems(SOME, with_template(kind, None), TULU) if p.wrong_labels]
    assert told == []


def test_a_missing_end_mark_is_told_with_its_cure() -> None:
    (problem,) = encoding_problems(SOME, with_template("byte_level", ENDLESS), CHAT)
    assert "the end of an answer is not learnt in 2 of 2 rows" in problem.text
    assert not problem.wrong_labels


def test_a_prompt_that_is_not_learnt_is_told_with_its_cure() -> None:
    tokenizer = with_template("byte_level", MODEL_THINKS)
    (problem,) = encoding_problems(SOME, tokenizer, CHAT)
    assert "generation prompt has other tokens" in problem.text
    assert "enable_thinking: false" in problem.text
    cured = TemplateConfig(name="chat", kwargs={"enable_thinking": False})
    assert encoding_problems(SOME, tokenizer, cured) == []
    (spaced,) = encoding_problems(SOME, with_template("byte_level", SPACED), CHAT)
    assert "generation prompt has other tokens" in spaced.text


def test_labels_of_other_turns_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fault put into the encoding: everything is learnt but the answers."""
    right = places.labels_at

    def wrong(ids: Any, at: Any, spans: Any) -> list[int]:
        labels = right(ids, at, spans)
        return [token if label == -100 else -100 for token, label in zip(ids, labels, strict=True)]

    monkeypatch.setattr("tis_ray.data.chat.labels_at", wrong)
    problems = encoding_problems(SOME, with_template("byte_level", ENDING), CHAT)
    assert "(user) of row r0 is learnt" in problems[0].text
    assert problems[0].wrong_labels
