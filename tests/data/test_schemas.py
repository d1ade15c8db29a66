"""Schemas: which fields make a dialogue, what is heard beside them, and what is counted as left out."""

from __future__ import annotations

import json
import string
from typing import Any, get_args

import pytest

from tis_ray.data import Record, Rejected, Row, checked_rows, content_id
from tis_ray.data.reading import Reading
from tis_ray.data.schemas import FIELDS, PAIRS
from tis_ray.data.turns import TURN_FIELDS
from tis_ray.settings import HubSource
from tis_ray.settings.data import COLUMNS, GivenSource

ASKED = {"role": "user", "content": "Hi"}
ANSWERED = {"role": "assistant", "content": "Hello"}
DIALOGUE = [ASKED, ANSWERED]
SYSTEM = {"role": "system", "content": "Be brief"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def outcome(value: Any, side: Any = "pool", **reading: Any) -> Row | Rejected:
    (found,) = checked_rows([Record("f.jsonl", 1, value, "f")], side, Reading(**reading))
    return found


def row_of(value: Any, side: Any = "pool", **reading: Any) -> Row:
    found = outcome(value, side, **reading)
    assert not isinstance(found, Rejected), found
    return found


def refused(value: Any, **reading: Any) -> tuple[str, str]:
    found = outcome(value, **reading)
    assert isinstance(found, Rejected)
    return str(found.reason), found.detail


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        *(("/".join(pair), dict(zip(pair, ("Hi", "Hello"), strict=True))) for pair in PAIRS),
        ("messages", {"messages": json.dumps(DIALOGUE)}),
        ("messages", {"messages": {"role": ["user", "assistant"], "content": ["Hi", "Hello"]}}),
        ("messages", {"messages": [{**ASKED, "role": " User"}, {**ANSWERED, "role": "ASSISTANT"}]}),
        ("messages", {"messages": [{**ASKED, "content": [{"type": "text", "text": "Hi"}]}, ANSWERED]}),
        ("messages", {"messages": [{**ASKED, "content": ["H", {"text": "i"}]}, ANSWERED]}),
        ("conversation", {"conversation": DIALOGUE}),
        ("conversations", {"conversations": [{"from": "Human", "value": "Hi"}, {"from": "GPT", "value": "Hello"}]}),
        ("conversations", {"conversations": [{"from": "user", "value": "Hi"}, {"from": "bard", "content": "Hello"}]}),
        ("conversations", {"conversations": [{"role": "human", "value": "Hi"}, {"role": "bing", "value": "Hello"}]}),
        ("preference", {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}),
        ("preference", {"question": "Hi", "chosen": [ANSWERED], "rejected": [ANSWERED]}),
        ("preference", {"prompt": "Hi", "chosen": DIALOGUE, "rejected": DIALOGUE}),
        ("preference", {"chosen": DIALOGUE, "rejected": DIALOGUE}),
        ("preference", {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Hello"}}),
        ("preference", {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}),
        ("preference", {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "\n\nHuman: Hi\n\nAssistant: Hello"}),
        ("prompt/completion", {"prompt": "\n\nHuman: Hi\n\nAssistant: ", "completion": "Hello"}),
        ("prompt/completion", {"prompt": "Hi", "completion": "Hello", "label": True, "train": True, "images": []}),
        ("input/output", {"input": [ASKED], "output": ANSWERED}),
        ("conversation", {"conversation": [{"system": "", "input": "Hi", "output": "Hello"}]}),
        ("conversations", {"conversations": [{"human": "Hi", "assistant": "Hello"}]}),
        ("conversations", {"conversations": [{"From": "human", "Value": "Hi"}, {"From": "gpt", "Value": "Hello"}]}),
        ("instruction/output", {"instruction": "Hi", "output": "Hello", "history": [], "system": ""}),
        ("instruction/output", {"instruction": "Hi", "output": "Hello", "history": ""}),
    ],
)  # fmt: skip
def test_every_schema_says_the_same(schema: str, value: dict[str, Any]) -> None:
    row = row_of(value)
    assert row["messages"] == DIALOGUE
    assert row["schema"] == schema
    assert row["id"] == content_id({"messages": DIALOGUE})


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [SYSTEM, *DIALOGUE], "system": "Be brief"},
        {"messages": DIALOGUE, "system": "Be brief"},
        {"conversations": DIALOGUE, "system": "Be brief"},
        {"instruction": "Hi", "output": "Hello", "system": "Be brief"},
        {"system_prompt": "Be brief", "question": "Hi", "response": "Hello"},
    ],
)
def test_a_system_text_beside_a_dialogue_is_its_first_turn(value: dict[str, Any]) -> None:
    assert row_of(value)["messages"] == [SYSTEM, *DIALOGUE]


def test_a_transcript_is_split_at_its_names_alone() -> None:
    text = "\n\nHuman: a\nHuman: b\n\nAssistant: c\n\nHuman: d\n\nAssistant:"
    row = row_of({"chosen": text})
    assert [turn["content"] for turn in row["messages"]] == ["a\nHuman: b", "c", "d", ""]
    for text in ("Human: Hi\nAssistant:", "\n\nAssistant: Hi\n\nHuman: a", "\n\nHuman: Hi", "Hi"):
        assert row_of({"prompt": text, "completion": "x"})["messages"][0]["content"] == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"prompt": "Hi", "completion": "No", "label": False}, "undesirable"),
        ({"prompt": "Hi", "completion": "No", "label": "False"}, "undesirable"),
        ({"conversations": DIALOGUE, "kto_tag": False}, "undesirable"),
        ({"messages": DIALOGUE, "train": False}, "nothing_trained"),
        ({"prompt": "Hi", "completion": "Hello", "weight": 0}, "nothing_trained"),
        ({"messages": [ASKED, {**ANSWERED, "loss": False}]}, "nothing_trained"),
        ({"messages": [ASKED, {**ANSWERED, "training": False}]}, "nothing_trained"),
        ({"messages": DIALOGUE, "images": ["a.png"]}, "not_text"),
        ({"conversations": [{**ASKED, "content": "<image> Hi"}, ANSWERED], "image": "a.png"}, "not_text"),
        ({"messages": [{**ASKED, "audio": {"id": "x"}}, ANSWERED]}, "not_text"),
        ({"text": "Hi", "role": "prompter", "parent_id": None}, "no_messages"),
    ],
)  # fmt: skip
def test_a_row_that_says_it_is_not_to_be_learnt_is_refused(value: Any, reason: str) -> None:
    assert refused(value)[0] == reason


def test_marks_that_mean_something_else_are_left_out() -> None:
    value = {"prompt": "Hi", "completion": "Hello", "label": 0, "weight": 0.5, "train": "yes"}
    assert row_of(value)["left_out"] == ["label", "train", "weight"]
    turns = [ASKED, {**ANSWERED, "loss": 2.5}]
    assert row_of({"messages": turns})["left_out"] == ["messages[].loss"]
    held_out = {"messages": DIALOGUE, "train": False}
    assert row_of(held_out, "test")["left_out"] == ["train"]


def test_what_a_question_is_about_stands_below_it() -> None:
    about = {"question": "Who?", "context": "Ann ran."}
    for answer in ("answer", "chosen"):
        row = row_of({**about, answer: "Ann"})
        assert row["messages"][0]["content"] == "Who?\n\nAnn ran."
    row = row_of({"instruction": "Add", "input": "1 2", "chosen": "3", "history": [["a", "b"]]})
    assert [turn["content"] for turn in row["messages"]] == ["a", "b", "Add\n\n1 2", "3"]
    row = row_of({"prompt": "Ann ran. Who?", "context": "Ann ran.", "response": "Ann"})
    assert row["left_out"] == ["context"]


def test_two_system_texts_that_differ_are_refused() -> None:
    reason, detail = refused({"messages": [SYSTEM, *DIALOGUE], "system": "Be long"})
    assert (reason, detail[:35]) == ("wrong_type", "system: differs from the system tur")


def test_dolly_and_alpaca_hold_a_context_and_a_history() -> None:
    dolly = {"instruction": "Who?", "context": "Ann ran.", "response": "Ann", "category": "qa"}
    row = row_of(dolly)
    assert row["messages"][0]["content"] == "Who?\n\nAnn ran."
    assert row["left_out"] == ["category"]
    value = {"instruction": "c", "output": "d", "history": [["a", "b"]]}
    turns = row_of(value)["messages"]
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ]
    assert refused({**value, "history": [["a"]]})[1].startswith("history[0]: expected a question")


@pytest.mark.parametrize(
    "turn",
    [
        {"content": "", "tool_calls": [CALL]},
        {"content": None, "tool_calls": [CALL]},
        {"tool_calls": json.dumps([CALL])},
        {"tool_calls": [{"function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]},
        {"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}]},
        {"function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    ],
)
def test_calls_of_tools_have_one_form(turn: dict[str, Any]) -> None:
    result = {"role": "tool", "content": "7", "tool_call_id": "c1", "name": "weather"}
    row = row_of({"messages": [ASKED, {"role": "assistant", **turn}, result], "tools": [TOOL]})
    assert row["messages"] == [
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        result,
    ]
    assert row["tools"] == [TOOL]
    assert row["id"] != content_id({"messages": row["messages"]})


def test_sharegpt_calls_and_observations_are_those_of_tools() -> None:
    value = {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": json.dumps(CALL["function"])},
            {"from": "observation", "value": "7"},
            {"from": "gpt", "value": "Hello"},
        ],
        "tools": json.dumps([TOOL]),
        "system": "Be brief",
    }
    row = row_of(value)
    assert [turn["role"] for turn in row["messages"]] == [
        *("system", "user", "assistant", "tool", "assistant"),
    ]
    assert row["messages"][2]["tool_calls"] == [CALL]
    assert row["tools"] == [TOOL]
    value["conversations"][1]["value"] = "weather(Oslo)"  # type: ignore[index]
    assert refused(value)[1] == "conversations[1].value: expected the JSON of a call, found str"


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        ({"messages": [{**ASKED, "content": [{"type": "image_url"}]}, ANSWERED]}, "not_text", "'image_url'"),
        ({"messages": [{**ASKED, "content": [{"type": "input_audio"}]}, ANSWERED]}, "not_text", "[0]"),
        ({"messages": [{**ASKED, "content": [{"type": "text"}]}, ANSWERED]}, "wrong_type", "[0].text"),
        ({"messages": "[{"}, "wrong_type", "messages: expected a list, found str"),
        ({"messages": {"role": ["user"], "content": []}}, "wrong_type", "differ in length"),
        ({"messages": ASKED}, "wrong_type", "messages: expected a list, found dict"),
        ({"messages": [{**ANSWERED, "weight": 0.5}]}, "wrong_type", "weight: expected 0 or 1"),
        ({"messages": [{**ANSWERED, "train": "no"}]}, "wrong_type", "train: expected true or fal"),
        ({"messages": [ASKED, {**ANSWERED, "weight": 0}]}, "nothing_trained", "no answer is train"),
        ({"messages": [{**ANSWERED, "tool_calls": [{"name": "f", "arguments": "x"}]}]}, "wrong_type", "arguments: expected an object"),
        ({"messages": [{**ANSWERED, "tool_calls": [{"arguments": {}}]}]}, "wrong_type", "name: expected text, found null"),
        ({"messages": [{**ANSWERED, "tool_calls": [{"name": "f", "arguments": {"a": "\ud800"}}]}]}, "wrong_type", "surrogate"),
        ({"messages": DIALOGUE, "tools": ["x"]}, "wrong_type", "tools[0]: expected an object"),
        ({"chosen": "Hello", "rejected": "No"}, "no_messages", "`chosen` has no prompt"),
        ({"instruction": ["x"], "output": "y"}, "wrong_type", "instruction: expected text"),
    ],
)  # fmt: skip
def test_what_cannot_be_heard_is_refused(value: Any, reason: str, detail: str) -> None:
    found = refused(value)
    assert found[0] == reason
    assert detail in found[1]


def trained(turn: dict[str, Any], **reading: Any) -> Any:
    row = row_of({"messages": [ASKED, ANSWERED, ASKED, {**ANSWERED, **turn}]}, **reading)
    return [turn.get("trained") for turn in row["messages"]]


def test_a_row_says_which_turns_are_trained() -> None:
    assert trained({}) == [None] * 4
    assert trained({"weight": 1}) == trained({"train": True}) == [None] * 4
    assert trained({"weight": 0}) == trained({"train": False}) == [None, None, None, []]
    assert trained({}, train_on="last") == [None, [], None, None]
    parts = [
        {"begin_offset": 0, "end_offset": 3, "train": True},
        {"begin_offset": 1, "end_offset": 1, "train": False},
    ]
    assert trained({"train_detail": parts})[3] == [(0, 1), (2, 4)]
    assert trained({"train_detail": parts, "train": False})[3] == []
    for asked, left in (({"train": True}, ["messages[].train"]), ({"train": False}, None)):
        row = row_of({"messages": [{**ASKED, **asked}, ANSWERED]})
        assert (row["messages"], row.get("left_out")) == (DIALOGUE, left)
    beyond = [{"begin_offset": 0, "end_offset": 5, "train": True}]
    detail = refused({"messages": [{**ANSWERED, "train_detail": beyond}]})[1]
    assert detail == "messages[0].train_detail[0]: offsets 0 to 5 are not within the 5 characters"


def test_plain_text_is_encoded_as_it_is_and_is_no_answer() -> None:
    row = row_of({"text": "Once upon a time", "meta": {"url": "x"}})
    assert (row["prompt"], row["label"]) == ("", "Once upon a time")
    assert row["left_out"] == ["meta"]
    assert row["id"] != row_of({"messages": [{**ANSWERED, "content": row["label"]}]})["id"]


def test_what_had_no_part_is_named() -> None:
    value = {
        "messages": [{**ASKED, "audio": None}, {**ANSWERED, "refusal": "x", "audio": {"id": 1}}],
        "prompt": "Hi",
        "score": 3,
        "gone": None,
    }
    assert row_of(value)["left_out"] == [
        "messages[].audio",
        "messages[].refusal",
        "prompt",
        "score",
    ]
    assert "left_out" not in row_of({"messages": DIALOGUE, "id": "a", "source": "s"})
    pair = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
    assert row_of(pair)["left_out"] == ["rejected"]


def test_reasoning_is_kept() -> None:
    row = row_of({"messages": [ASKED, {**ANSWERED, "reasoning_content": "Hm."}]})
    assert row["messages"][1] == {**ANSWERED, "reasoning_content": "Hm."}
    assert row["id"] != content_id({"messages": DIALOGUE})


def test_columns_map_other_names() -> None:
    value = {"frage": "Hi", "antwort": "Hello", "meta": {"uid": 7, "lang": "de"}, "prompt": "x"}
    columns = {"prompt": "frage", "response": "antwort", "id": "meta.uid"}
    row = row_of(value, columns=columns)
    assert row["messages"] == DIALOGUE
    assert (row["id"], row["given_id"], row["schema"]) == ("7", "7", "prompt/response")
    assert row["left_out"] == ["meta", "prompt"]
    both = {**value, "messages": [ANSWERED]}
    assert row_of(both, columns=columns)["messages"] == DIALOGUE
    nested = {"data": {"dialogue": DIALOGUE}, "tags": 1}
    row = row_of(nested, columns={"messages": "data.dialogue"})
    assert (row["messages"], row["left_out"]) == (DIALOGUE, ["tags"])
    dotted = {"data.dialogue": DIALOGUE}
    assert row_of(dotted, columns={"messages": "data.dialogue"})["messages"] == DIALOGUE
    assert "found x" in refused({"x": 1}, columns={"messages": "gone"})[1]


@pytest.mark.parametrize(
    "dialogue",
    [
        [{"speaker": "user", "text": "Hi"}, {"speaker": "assistant", "text": "Hello"}],
        json.dumps([{"speaker": "user", "text": "Hi"}, {"speaker": "assistant", "text": "Hello"}]),
        {"speaker": ["user", "assistant"], "text": ["Hi", "Hello"]},
    ],
)
def test_columns_map_names_in_turns(dialogue: Any) -> None:
    names = {"messages": "dialogue", "role": "speaker", "content": "text"}
    assert row_of({"dialogue": dialogue}, columns=names)["messages"] == DIALOGUE
    asked = {"prompt": "Hi", "chosen": {"speaker": "assistant", "text": "Hello"}}
    assert row_of(asked, columns={"role": "speaker", "content": "text"})["messages"] == DIALOGUE


def test_a_field_that_columns_replace_is_left_out() -> None:
    value = {"question": "Hi", "answer": "No", "right": "Hello"}
    row = row_of(value, columns={"answer": "right"})
    assert (row["messages"], row["left_out"]) == (DIALOGUE, ["answer"])


def test_a_config_maps_fields_that_mean_something() -> None:
    assert set(COLUMNS) <= FIELDS.union(TURN_FIELDS)
    with pytest.raises(ValueError, match="'frage' is not a field of a row; give one of id, source"):
        HubSource(name="a/b", columns={"frage": "prompt"})
    assert set(get_args(GivenSource.model_fields["train_on"].annotation)) == {"all", "last"}
    assert all(set(name) <= {*string.ascii_lowercase, "_"} for name in FIELDS)


@pytest.mark.parametrize(
    ("given", "text"),
    [(1.5, "1.5"), (3.0, "3.0"), (True, "true"), (b"ab", "ab"), (b"\xff\x01", "ff01"), (10**30, "1" + "0" * 30)],
)  # fmt: skip
def test_any_scalar_is_an_id(given: Any, text: str) -> None:
    row = row_of({"id": given, "messages": DIALOGUE})
    assert row["id"] == row["given_id"] == text


@pytest.mark.parametrize("given", [None, "", float("nan")])
def test_a_gap_is_no_id(given: Any) -> None:
    row = row_of({"id": given, "messages": DIALOGUE})
    assert "given_id" not in row
    assert row["id"] == content_id(row)
