"""A few examples are parted into queries and test rows: whole, for good, and never a text on both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.config import parse_config, plan
from tis_ray.data import Rejected, content_fingerprint, read_rows
from tis_ray.data.holdout import held_out
from tis_ray.errors import InputError
from tis_ray.settings import BuiltinSource, FileSource


def row(text: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]
    return {"id": text, "source": "s", "messages": turns}


def parted(texts: list[str], share: float, seed: int = 0) -> tuple[list[str], list[str]]:
    sides = []
    for side in ("query", "test"):
        found = held_out(map(row, texts), share, seed, side, "q.jsonl")  # type: ignore[arg-type]
        sides.append([each["id"] for each in found if not isinstance(each, Rejected)])
    return sides[0], sides[1]


@tries(80)
@given(st.lists(st.text(max_size=2), min_size=2, max_size=40), st.floats(0.01, 0.99))
def test_each_row_is_on_one_side_and_each_side_has_one(texts: list[str], share: float) -> None:
    if len(set(texts)) < 2:
        return
    query, test = parted(texts, share)
    assert sorted(query + test) == sorted(texts)
    assert query
    assert test
    assert not set(query) & set(test)
    if len(set(texts)) == len(texts):
        assert len(test) == min(len(texts) - 1, max(1, round(share * len(texts))))
    backwards = parted(texts[::-1], share)
    assert (set(backwards[0]), set(backwards[1])) == (set(query), set(test))


def test_another_seed_parts_otherwise() -> None:
    texts = [f"t{n}" for n in range(30)]
    assert parted(texts, 0.3)[1] != parted(texts, 0.3, seed=1)[1]


def test_what_says_one_thing_cannot_be_parted() -> None:
    with pytest.raises(
        InputError, match=r"q\.jsonl: holdout: 3 usable row\(s\), 1 different, cannot"
    ):
        parted(["a", "a", "a"], 0.3)


def test_both_sides_of_a_file_are_read_from_it(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join([*(json.dumps(row(f"t{n}")) for n in range(10)), "{"]))
    source = FileSource(path=str(path), holdout=0.3)
    query, test = ([*read_rows(source, side)] for side in ("query", "test"))  # type: ignore[arg-type]
    assert sum(isinstance(each, Rejected) for each in query) == 1
    assert (len(query), len(test)) == (8, 3)
    prints = {content_fingerprint(source, side) for side in ("query", "test")}  # type: ignore[arg-type]
    whole = FileSource(path=str(path))
    assert (
        len(prints | {content_fingerprint(whole, "query"), content_fingerprint(whole, "test")}) == 4
    )


def test_the_generators_queries_are_parted_not_its_test_rows() -> None:
    source = BuiltinSource(rows=10, skill="reverse_word", holdout=0.3)
    whole = [
        each["id"] for each in read_rows(BuiltinSource(rows=10, skill="reverse_word"), "query")
    ]  # type: ignore[union-attr]
    query, test = ([r["id"] for r in read_rows(source, side)] for side in ("query", "test"))  # type: ignore[union-attr, arg-type]
    assert (len(query), len(test)) == (7, 3)
    assert sorted(query + test) == sorted(whole)


def config(**data: Any) -> dict[str, Any]:
    return {"data": {"pool": "p.jsonl", **data}, "budget": 4}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"query": {"path": "q", "holdout": 0.3}, "test": "t"}, "query.holdout: holds out test rows, and"),
        ({"query": "q", "test": {"path": "t", "holdout": 0.3}}, "test.holdout: only of queries"),
        ({"query": "q", "pool": {"path": "p", "holdout": 0.3}}, "pool.holdout: only of queries"),
        ({"query": [{"path": "q", "holdout": 0.3}, "r"]}, "holdout: belongs to the whole list"),
        ({"query": {"path": "q", "holdout": 1}}, "should be less than 1"),
    ],
)  # fmt: skip
def test_only_queries_are_parted_and_once(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config(config(**data))


def test_a_side_comes_from_what_the_config_says() -> None:
    data = parse_config(config(query={"path": ["q", "r"], "holdout": 0.3})).data
    assert data.sides == ["pool", "query", "test"]
    assert data.side("test") is data.side("query")
    alone = parse_config(config(query="q")).data
    assert alone.sides == ["pool", "query"]
    assert alone.source("test") is None


def test_tasks_may_have_test_rows_or_hold_them_out_or_have_none() -> None:
    tasks = {"a": {"query": "a"}, "b": {"query": {"path": "b", "holdout": 0.2}}, "c": {"query": "c", "test": "t"}}  # fmt: skip
    studies = plan(parse_config({**config(), "tasks": tasks}))
    assert [study.data.sides[2:] for study in studies.values()] == [[], ["test"], ["test"]]
