"""What trainers are given: each form trains what the row trains, or says that it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.data.forms.dialogues import ROWS, read
from tis_ray.data.forms import FORMS, Setting, formed
from tis_ray.data.reading import Reading, row_of
from tis_ray.data.rows import Record

AT = Setting("/data/best.jsonl", "best", "org/model", 2048)
SAID = {
    "messages": {"single", "multi", "last", "tail", "gap", "tools", "greeting", "conflict"},
    "trl": {"single", "multi", "last", "tail", "tools", "text", "greeting", "conflict"},
    "axolotl": {"single", "multi", "last", "tail", "gap", "part", "tools", "text", "greeting", "conflict"},
    "llamafactory": {"single", "multi", "last", "tail", "tools", "text"},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_form_says_what_it_can_and_refuses_the_rest(form: str) -> None:
    said = {kind for kind in ROWS if not formed(FORMS[form], read(kind))[1]}
    assert said == SAID[form]


@pytest.mark.parametrize(
    ("form", "kind", "why"),
    [
        (
            "trl",
            "gap",
            {0: "messages[3] is not trained, but an answer before and one after it are"},
        ),
        ("trl", "part", {0: "a part of messages[1] is trained"}),
        ("messages", "text", {0: "plain text", 1: "plain text"}),
        ("llamafactory", "gap", {0: "some of its earlier answers are trained and some are not"}),
        ("llamafactory", "greeting", {0: "user and assistant do not take turns"}),
        (
            "llamafactory",
            "conflict",
            {0: "needs mask_history, which would change what others train"},
        ),
        ("axolotl", "mixed", {0: "it is plain text, and most others are dialogue"}),
    ],
)
def test_a_row_that_a_form_cannot_say_is_named_with_the_reason(
    form: str, kind: str, why: dict[int, str]
) -> None:
    unsaid = formed(FORMS[form], read(kind))[1]
    assert unsaid.keys() == why.keys()
    assert all(why[place] in unsaid[place] for place in why)


@pytest.mark.parametrize(
    ("form", "kind", "needs"),
    [
        ("trl", "single", set()),
        ("trl", "last", set()),
        ("trl", "multi", {"assistant_only_loss"}),
        ("llamafactory", "single", set()),
        ("llamafactory", "multi", set()),
        ("llamafactory", "last", {"mask_history"}),
    ],
)
def test_a_trainer_is_told_what_rows_need_and_no_more(
    form: str, kind: str, needs: set[str]
) -> None:
    found, _ = formed(FORMS[form], read(kind))
    assert found.needs == needs
    stanza = FORMS[form].stanza
    assert stanza is not None
    text = stanza(AT, found)
    assert all(name in text for name in ("best", "org/model", "2048", *needs))
    assert ("assistant_only_loss" in text) == ("assistant_only_loss" in needs)
    assert ("mask_history" in text) == ("mask_history" in needs)


def test_openai_has_arguments_as_text_and_weight_of_what_is_not_trained() -> None:
    tools, last = (formed(FORMS["messages"], read(kind))[0].rows for kind in ("tools", "last"))
    call = tools[0]["messages"][1]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"a": 1}
    assert [turn.get("weight") for turn in last[0]["messages"]] == [None, 0, None, None]


def test_what_openais_form_says_is_read_again_as_it_was() -> None:
    for kind in SAID["messages"]:
        rows = read(kind)
        said = formed(FORMS["messages"], rows)[0].rows
        for row, fields in zip(rows, said, strict=True):
            again: Any = row_of(Record("f", 1, fields), "pool", Reading())
            same = ("messages", "tools")
            assert {k: again.get(k) for k in same} == {k: row.get(k) for k in same}


def test_axolotl_is_told_of_each_character_whether_it_is_trained() -> None:
    (row,) = formed(FORMS["axolotl"], read("part"))[0].rows
    assert row["messages"][1]["training_detail"] == [
        {"begin_offset": 0, "end_offset": 11, "train": False},
        {"begin_offset": 12, "end_offset": 14, "train": True},
    ]
