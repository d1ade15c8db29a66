"""The row contract: shapes that are accepted, reasons for the others, ids, sampling."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.data import Record, Rejected, RejectReason, checked_rows, content_id, sample_rows
from tis_ray.errors import InputError

QUESTION = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}


def check(*values: Any, side: Any = "pool") -> list[Any]:
    records = (Record("f.jsonl", n, value, "f") for n, value in enumerate(values, 1))
    return list(checked_rows(records, side))


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [QUESTION, ANSWER]},
        {"messages": [{**QUESTION, "name": None}, ANSWER], "unknown": 1, "prompt": None},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"conversations": [QUESTION, ANSWER]},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": [QUESTION], "completion": [ANSWER]},
        {"prompt": [QUESTION], "completion": "Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "input": None, "output": "Hello", "messages": None},
        {"prompts": "<|user|>\nHi\n<|assistant|>\n", "labels": "Hello"},
        {"prompts": "Hi", "labels": "Hello"},
    ],
)
def test_accepted_shapes_become_the_same_row(value: dict[str, Any]) -> None:
    (row,) = check(value)
    assert row["messages"] == [QUESTION, ANSWER]
    assert (row["id"], row["source"]) == (content_id(row), "f")
    assert (row["file"], row["line"]) == ("f.jsonl", 1)
    assert not {"given_id", "prompt", "tools"} & set(row)


def test_alpaca_input_follows_the_instruction() -> None:
    (row,) = check({"instruction": "Add", "input": "1 2", "output": "3"})
    assert row["messages"][0]["content"] == "Add\n\n1 2"


def test_query_texts_stay_as_they_are() -> None:
    prompt = "<|system|>\nBe brief\n<|user|>\n2 + 2? \n<|assistant|>\n"
    (row,) = check({"id": 7, "prompts": prompt, "labels": " 4"}, side="query")
    assert row["id"] == "7"
    assert (row["prompt"], row["label"]) == (prompt, " 4")
    assert row["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "2 + 2? "},
        {"role": "assistant", "content": " 4"},
    ]


def test_templated_answers_in_prompts_serve_as_a_query_but_not_as_a_pool_row() -> None:
    shots = "<|user|>\na\n<|assistant|>\nb</s>\n<|user|>\nc\n<|assistant|>\n"
    value = {"prompts": shots, "labels": "d"}
    (query,) = check(value, side="query")
    assert query["prompt"] == shots
    assert [turn["content"] for turn in query["messages"]] == [shots, "d"]
    (rejected,) = check(value, side="pool")
    assert rejected.reason == RejectReason.WRONG_TYPE


def test_source_falls_back_to_dataset_then_to_the_file() -> None:
    rows = check(
        {"source": "s", "dataset": "d", "messages": [QUESTION, ANSWER]},
        {"dataset": "d", "messages": [QUESTION, ANSWER]},
        {"source": "", "messages": [QUESTION, ANSWER]},
    )
    assert [row["source"] for row in rows] == ["s", "d", "f"]


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        ([1], "wrong_type", "row: expected an object, found list"),
        (None, "wrong_type", "row: expected an object, found null"),
        ({"id": [1], "messages": [ANSWER]}, "wrong_type", "id: expected text or a number, found l"),
        ({"id": {"a": 1}, "messages": [ANSWER]}, "wrong_type", "id: expected text or a number"),
        ({"source": [], "messages": [ANSWER]}, "wrong_type", "source: expected text or a number"),
        ({"id": "\ud800", "messages": [ANSWER]}, "wrong_type", "id: holds half of a UTF-16"),
        ({"source": "\ud800", "messages": [ANSWER]}, "wrong_type", "source: holds half"),
        ({"prompt": "hi", "completion": "\ud800"}, "wrong_type", "completion: holds half"),
        ({"text": "\ud800"}, "wrong_type", "text: holds half"),
        ({"messages": [{**ANSWER, "role": "\ud800"}]}, "wrong_type", "role: holds half"),
        ({"\ud800": 1}, "no_messages", "found \\ud800"),
        ({"messages": "Hi"}, "wrong_type", "messages: expected a list, found str"),
        ({"messages": ["Hi"]}, "wrong_type", "messages[0]: expected an object"),
        ({"messages": [QUESTION, {"role": "assistant"}]}, "wrong_type", "messages[1].content"),
        ({"messages": [{"content": "x"}]}, "wrong_type", "messages[0].role: expected text"),
        ({"messages": [QUESTION, {**ANSWER, "content": 3}]}, "wrong_type", "found int"),
        ({"messages": [{**ANSWER, "content": "\ud800"}]}, "wrong_type", "surrogate"),
        ({"prompts": "x", "labels": ["y"]}, "wrong_type", "labels: expected text, found list"),
        ({"prompt": 1, "completion": "x"}, "wrong_type", "prompt: expected text or a list"),
        ({"instruction": "x", "output": 1}, "wrong_type", "output: expected text or a list"),
        ({}, "no_messages", "found nothing"),
        ({"title": "x", "id": "a"}, "no_messages", "found id, title"),
        ({"messages": []}, "no_messages", "empty"),
        ({"messages": None}, "no_messages", "found nothing"),
        ({"messages": [QUESTION, {"role": "judge", "content": "x"}]}, "unknown_role", "'judge'"),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "unknown_role", "'bot'"),
        ({"messages": [QUESTION]}, "no_assistant_turn", "assistant"),
        ({"prompt": " ", "completion": "\n"}, "empty_text", "every message is empty"),
    ],
)
def test_unusable_rows_are_rejected_with_a_reason(value: Any, reason: str, detail: str) -> None:
    (rejected,) = check(value)
    assert isinstance(rejected, Rejected)
    assert (rejected.file, rejected.line, rejected.reason) == ("f.jsonl", 1, reason)
    assert detail in rejected.detail
    assert "\n" not in rejected.detail


def test_an_empty_answer_is_kept() -> None:
    (row,) = check({"messages": [QUESTION, {**ANSWER, "content": ""}]})
    assert not isinstance(row, Rejected)


def test_the_set_of_reasons_is_closed() -> None:
    assert set(RejectReason) == {
        *("bad_json", "wrong_type", "not_text", "no_messages", "unknown_role"),
        *("no_assistant_turn", "nothing_trained", "undesirable", "repeats_pool_row"),
        *("empty_text", "duplicate_id", "labels_all_masked", "template_rejected"),
        *("overlaps_test", "overlaps_query", "excluded", "repeats_pool_row"),
    }


def test_a_repeated_id_is_rejected_whatever_it_holds() -> None:
    first = {"id": "a", "messages": [QUESTION, ANSWER]}
    other = {"id": "a", "messages": [ANSWER]}
    kept, same, different = check(first, first, other)
    assert kept["id"] == "a"
    assert (same.reason, same.line, same.id) == ("duplicate_id", 2, "a")
    assert (different.reason, different.line) == ("duplicate_id", 3)


def test_repeats_without_id_are_all_kept_under_numbered_ids() -> None:
    value = {"messages": [QUESTION, ANSWER]}
    rows = check(value, value, value)
    base = content_id(rows[0])
    assert [row["id"] for row in rows] == [base, f"{base}-2", f"{base}-3"]


def test_a_rejected_row_does_not_use_up_its_id() -> None:
    bad, good = check({"id": "a", "messages": []}, {"id": "a", "messages": [ANSWER]})
    assert bad.id == "a"
    assert good["id"] == "a"


def test_content_id_depends_on_roles_and_texts_alone() -> None:
    one, two = check(
        {"source": "x", "messages": [QUESTION, ANSWER]}, {"prompt": "Hi", "completion": "Hello."}
    )
    assert one["id"] == "ed03ca1a367ff99eb316e55596639cac"
    assert two["id"] != one["id"]
    turned = {"messages": [{**QUESTION, "role": "system"}, ANSWER]}
    assert check(turned)[0]["id"] != one["id"]


contents = st.text(max_size=8)
good_values = st.builds(
    lambda user, answer, key: {
        "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}],
        **({} if key is None else {"id": key}),
    },
    contents,
    contents,
    st.none() | st.integers(0, 5),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | contents,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(contents, inner, max_size=3),
    max_leaves=5,
)
values_lists = st.lists(good_values | json_values, max_size=12)


@given(values_lists)
def test_every_record_gives_a_row_or_a_rejection_in_order(values: list[Any]) -> None:
    found = check(*values)
    assert len(found) == len(values)
    rows = [row for row in found if not isinstance(row, Rejected)]
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row.line == n for n, row in enumerate(found, 1) if isinstance(row, Rejected))


@given(
    st.lists(good_values, max_size=12).flatmap(lambda v: st.tuples(st.just(v), st.permutations(v)))
)
def test_order_does_not_change_ids_or_contents(lists: tuple[list[Any], list[Any]]) -> None:
    def ids_and_counts(values: list[Any]) -> Any:
        found = check(*values)
        rows = [row for row in found if not isinstance(row, Rejected)]
        reasons = Counter(row.reason for row in found if isinstance(row, Rejected))
        unnamed = Counter(json.dumps(row["messages"]) for row in rows if len(row["id"]) > 1)
        return {row["id"] for row in rows}, reasons, unnamed

    assert ids_and_counts(lists[0]) == ids_and_counts(lists[1])


def rows_named(names: list[str]) -> list[Any]:
    return check(*({"id": name, "messages": [ANSWER]} for name in names))


NAMES = [f"row{n}" for n in range(200)]


def sampled(names: list[str], n: int, seed: int) -> list[str]:
    return [row["id"] for row in sample_rows(rows_named(names), n, seed)]  # type: ignore[index]


def test_sample_keeps_pool_order_and_size_and_repeats_with_its_seed() -> None:
    names = sampled(NAMES, 50, 3)
    assert len(names) == 50
    assert names == sorted(names, key=NAMES.index)
    assert names == sampled(NAMES, 50, 3)
    assert names != sampled(NAMES, 50, 4)
    assert sampled(NAMES, 500, 0) == NAMES


def test_sample_ignores_pool_order_and_nests() -> None:
    assert set(sampled(NAMES[::-1], 50, 3)) == set(sampled(NAMES, 50, 3))
    assert set(sampled(NAMES, 20, 3)) < set(sampled(NAMES, 50, 3))


def test_sample_is_uniform() -> None:
    counts = Counter(name for seed in range(400) for name in sampled(NAMES[:20], 5, seed))
    chi_square = sum((counts[name] - 100) ** 2 / 100 for name in NAMES[:20])
    assert chi_square < 43.8  # the 0.999 quantile with 19 degrees of freedom


def test_sample_passes_rejected_rows_on_in_their_places() -> None:
    rows = check({"id": "a", "messages": [ANSWER]}, 1, {"id": "b", "messages": [ANSWER]}, 2)
    assert list(sample_rows(rows, 5)) == rows
    assert [type(row) for row in sample_rows(rows, 1)].count(Rejected) == 2


def test_an_empty_sample_is_an_error() -> None:
    with pytest.raises(InputError, match="sample: 0 rows"):
        list(sample_rows([], 0))
