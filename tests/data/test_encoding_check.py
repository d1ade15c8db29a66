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


def with_spans(*spans: tuple[int, int]) -> list[Row]:
    messages = turns(
        "u:What is the capital of France?", "a:Paris it is. Berlin it is not, of course."
    )
    messages[1]["trained"] = list(spans)
    return rows(messages)


@pytest.mark.parametrize(
    "spans", [[], [(0, 41)], [(0, 12)], [(0, 12), (29, 41)], [(13, 29), (13, 41)]]
)
@pytest.mark.parametrize("template", [CHAT, TULU])
def test_answers_that_are_trained_in_part_are_well(spans: Any, template: TemplateConfig) -> None:
    assert (
        encoding_problems(with_spans(*spans), with_template("byte_level", ENDING), template) == []
    )


@pytest.mark.parametrize(
    ("spans", "fault"), [([(0, 12)], "is learnt"), ([(0, 41)], "is not learnt")]
)
def test_labels_of_other_pieces_are_found_out(
    monkeypatch: pytest.MonkeyPatch, spans: Any, fault: str
) -> None:
    """With a fault put into the encoding: all is learnt that its row leaves out."""
    right = places.labels_at

    def wrong(ids: Any, at: Any, spans: Any) -> list[int]:
        labels = right(ids, at, spans)
        return [token if label == -100 else -100 for token, label in zip(ids, labels, strict=True)]

    monkeypatch.setattr("tis_ray.data.chat.labels_at", wrong)
    row = with_spans(*spans)
    row[0]["messages"][0]["content"] = "What?"  # too short to be told
    problems = encoding_problems(row, with_template("byte_level", ENDING), CHAT)
    assert f"(assistant) of row r0 {fault}" in problems[0].text


def test_an_end_mark_that_is_no_token_is_told() -> None:
    tokenizer = with_template("byte_level", EOT.replace("<|eot_id|>", "###"))
    (problem,) = encoding_problems(SOME, tokenizer, CHAT)
    assert "the end mark '###' is no token" in problem.text
    assert not problem.wrong_labels


def test_rows_without_an_answer_are_left_out() -> None:
    asked = rows(turns("u:What is the capital of France?"))
    assert encoding_problems(asked, with_template("byte_level", ENDING), CHAT) == []


@pytest.mark.parametrize("name", ["tulu", "chat"])
def test_merged_answers_are_well(name: Any) -> None:
    doubled = rows(
        turns("u:What is the capital of France?", "a:Paris, if you ask me", "a:It is Paris")
    )
    template = TemplateConfig(name=name, merge=True)
    assert encoding_problems(doubled, with_template("byte_level", ENDING), template) == []
