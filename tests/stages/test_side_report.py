"""What a run says of a side: why rows were refused and where, what would help, what was cut and left out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.small import small_study
from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.config import parse_config
from tis_ray.data import TokenCounts
from tis_ray.distributed.connect import Cluster
from tis_ray.log import RunLog
from tis_ray.stages.context import Context
from tis_ray.stages.side_report import cure, refused, side_lines
from tis_ray.stages.tokens import prepare_side, read_side

CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}


def turns(*said: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in said]


POOL: list[Any] = [
    {"messages": turns(("user", "hi"), ("assistant", "yes")), "score": 1},
    "{",
    {"messages": turns(("user", "word " * 30), ("assistant", "yes"))},
    {"messages": turns(("user", "again"), ("assistant", "word " * 60)), "score": 2},
    {"dialogue": []},
    {"messages": [*turns(("user", "2+2")), {"role": "assistant", "content": "", "tool_calls": [CALL]}]},
    {"messages": [{**turn, "name": "Ann"} for turn in turns(("user", "hi"), ("assistant", "no"))]},
    "[",
]  # fmt: skip


def prepared(tmp_path: Path, **changes: Any) -> tuple[Any, str]:
    """Return the pool of a small study as tokens, and what was printed."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in POOL]
    (tmp_path / "pool.jsonl").write_text("\n".join(lines))
    pool = str(tmp_path / "pool.jsonl")
    changes = {"data__max_length": 40, "batch__shard_rows": 2, **changes}
    config = parse_config(small_study(tmp_path, data__pool=pool, **changes))
    console = Console(file=io.StringIO(), width=200)
    cluster = Cluster(cpus=1, gpus=0, threads=1, gpus_per_actor=0, actors=1)
    context = Context(config, cluster, RunLog(tmp_path / "run", console))
    side = prepare_side(context, "pool", read_side(config, "pool"))
    assert isinstance(console.file, io.StringIO)
    return side, console.file.getvalue()


def test_the_manifest_counts_over_all_shards(tmp_path: Path) -> None:
    side, _ = prepared(tmp_path)
    details = side.tokens.manifest().details
    counts = TokenCounts.from_json(details)
    kept = [len(row["input_ids"]) for row in side.examples()]
    assert counts.rows == len(kept) == side.usable == 3
    assert counts.tokens - counts.lost_tokens == sum(kept)
    assert (counts.cut_rows, sum(counts.lengths.values())) == (1, 3)
    assert counts.left_out == {"name": 1}
    assert details["reasons"] == {"labels_all_masked": 1, "template_rejected": 1}


def test_a_run_says_it_beside_the_number_of_quarantined_rows(tmp_path: Path) -> None:
    side, printed = prepared(tmp_path)
    first, *lines = printed.splitlines()
    assert "3 rows, 5 quarantined" in first
    assert [line.strip() for line in lines] == [*side_lines(side)]
    text = "\n".join(lines)
    assert "2 bad_json (pool.jsonl line 2, 8)" in text
    assert "1 no_messages (pool.jsonl line 5)" in text
    assert "→ name the fields with `columns:`" in text
    assert "1 labels_all_masked (pool.jsonl line 3)" in text
    assert "→ a greater data.max_length" in text
    for artifact in (side.rows, side.tokens):
        assert str(artifact / "quarantine.parquet") in text
    assert "1 of 3 rows are cut at data.max_length 40" in text
    assert "fields that are not read, with rows: score (2)" in text
    assert "fields that the template leaves out, with rows: name (1)" in text


def test_the_same_is_said_of_what_is_reused(tmp_path: Path) -> None:
    printed = [prepared(tmp_path)[1].splitlines()[1:] for _ in range(2)]
    assert printed[0] == printed[1]


def test_nothing_is_said_where_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.stages.test_side_report.POOL", [{**POOL[0], "score": None}])
    assert [*side_lines(prepared(tmp_path)[0])] == []


def test_rows_of_one_reason_with_different_faults_are_told_apart() -> None:
    found = [
        ("wrong_type", "messages: expected a list, found str"),
        ("wrong_type", "messages[3].content: expected text, found int"),
        ("wrong_type", "messages[7].content: expected text, found list"),
        ("bad_json", "Expecting value: line 1 column 9 (char 8)"),
        ("bad_json", "Unterminated string starting at: line 1 column 2 (char 1)"),
        ("bad_json", "an object has the key 'id' twice; keep one"),
    ]
    rows: list[Any] = [
        {"id": str(n), "file": "p.jsonl", "line": str(n), "reason": reason, "detail": detail}
        for n, (reason, detail) in enumerate(found)
    ]
    kinds = [(each.reason, each.count) for each in refused(rows)]
    assert sorted(kinds) == [("bad_json", 1), ("bad_json", 2), ("wrong_type", 1), ("wrong_type", 2)]


@pytest.mark.parametrize(
    ("reason", "detail", "help_"),
    [
        ("template_rejected", "the chat template refuses the dialogue: System role not supported", "system: prepend"),
        ("template_rejected", "Conversation roles must alternate user/assistant", "merge: true"),
        ("template_rejected", "template tulu has no form for tool calls", "has tools"),
        ("template_rejected", "the chat template leaves out the tool calls of messages[1]", "has tools"),
        ("no_messages", "expected messages, ...; found dialogue", "`columns:`"),
        ("no_messages", "the list of messages is empty", ""),
        ("labels_all_masked", "no response token within 8 tokens", "max_length"),
        ("wrong_type", "output: expected text, found int", ""),
    ],
)  # fmt: skip
def test_the_cure_is_named_where_it_is_known(reason: str, detail: str, help_: str) -> None:
    assert help_ in cure(reason, detail)
    assert bool(cure(reason, detail)) == bool(help_)


def test_refused_rows_are_told_by_their_cure_and_cannot_act() -> None:
    details = ["System role not supported", "roles must alternate", "System role \x1b[2J"]
    rows = [
        QuarantinedRow(file=f"f\u202e{n}.jsonl", line=str(n), id="", reason="template_rejected", detail=detail, side="pool")
        for n, detail in enumerate(details * 2)
    ]  # fmt: skip
    kinds = refused(rows)
    assert [kind.count for kind in kinds] == [4, 2]
    text = "".join(kind.line() for kind in kinds)
    assert "\\u202e" in text
    assert not {"\x1b", "\u202e"} & {*text}
