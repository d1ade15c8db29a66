"""The preview counts what a run counts, shows rows of each kind, and reads no more than it says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.small import small_study
from tis_ray.config import Config, parse_config
from tis_ray.data import read_rows
from tis_ray.errors import InputError
from tis_ray.study import preview as module
from tis_ray.study.preview import previews


def pair(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"prompt": question, "completion": answer, **more}


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    rows: dict[str, list[Any]] = {
        "pairs": [pair(f"word {n}", "yes " * (60 if n == 7 else 1)) for n in range(20)],
        "talks": [
            {"conversations": [{"from": "human", "value": f"t{n}"}, {"from": "gpt", "value": "no"}]}
            for n in range(20)
        ],
    }
    rows["pairs"][3:5] = [rows["pairs"][2], {"dialog": 1}]
    rows["talks"][6]["conversations"][0]["from"] = "tool"
    rows["talks"][9]["extra"] = "unread"
    for name, own in rows.items():
        path = tmp_path / "pool" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(map(json.dumps, own)))
    return tmp_path / "pool"


def study(tmp_path: Path, pool: Path, **changes: Any) -> Config:
    return parse_config(small_study(tmp_path, data__pool=str(pool), **changes))


def test_every_row_is_accounted_for(tmp_path: Path, pool: Path) -> None:
    (found,) = previews(study(tmp_path, pool), whole=True)
    side = found.sides[0]
    assert side.reach == "40 rows read = 38 used + 2 refused"
    assert side.counts.rows == 38
    assert Counter(kind.reason for kind in side.refused) == {
        "no_messages": 1,
        "template_rejected": 1,
    }
    assert [kind.places for kind in side.refused] == [
        ["pairs.jsonl line 5"],
        ["talks.jsonl line 7"],
    ]
    assert side.schemas == {"pairs": {"prompt/completion": 19}, "talks": {"conversations": 20}}
    assert side.left_out == {"extra": 1}
    assert side.repeats == [
        "1 repeat an earlier row word for word (pairs.jsonl line 4); overlap: {pool: equal} drops them"
    ]
    assert side.counts.cut_rows == 1


def test_a_row_of_each_kind_is_shown_and_a_cut_one(tmp_path: Path, pool: Path) -> None:
    (found,) = previews(study(tmp_path, pool), sides=["pool"])
    shown = [(row.file, row.line, row.schema, row.cut > 0) for row in found.sides[0].rows]
    assert shown == [
        ("pairs.jsonl", 1, "prompt/completion", False),
        ("pairs.jsonl", 8, "prompt/completion", True),
        ("talks.jsonl", 1, "conversations", False),
    ]
    assert all(row.trained + row.cut <= row.tokens for row in found.sides[0].rows)


def test_a_big_pool_is_looked_at_in_part(
    tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKED_AT", 6)
    source = {"path": str(pool), "sample": 4}
    config = parse_config(small_study(tmp_path, data__pool=source))
    (found,) = previews(config, rows=1)
    assert found.sides[0].reach == (
        "6 rows read = 6 used + 0 refused; all others of 2 files were not looked at (--all reads them); "
        "a run draws its sample from all rows"
    )
    assert len(found.sides[0].rows) == 1


def test_nothing_is_written(tmp_path: Path, pool: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    previews(study(tmp_path, pool))
    assert sorted(tmp_path.rglob("*")) == before


def test_facts_and_problems(tmp_path: Path, pool: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    chosen = {"name": "chat", "file": str(template), "merge": True, "kwargs": {"thinking": False}}
    (found,) = previews(study(tmp_path, pool, data__template=chosen))
    facts = dict(found.facts)
    assert (
        facts["template"]
        == f"chat, from {template}, merge, thinking: False, its date is 2024-07-26"
    )
    assert facts["generation prompt"] == "'[assistant]'"
    assert facts["end is learnt"].startswith("in 0 of ")
    assert "the end of an answer is not learnt" in "".join(found.problems)
    assert dict(previews(study(tmp_path, pool))[0].facts)["end marks"] == "'</s>'"


def test_studies_of_a_file_are_shown_once(tmp_path: Path, pool: Path) -> None:
    other = {"kind": "builtin", "skill": "add_numbers", "rows": 4}
    raw = small_study(tmp_path, data__pool=str(pool))
    raw["grid"] = {"data.max_length": [64, 128], "finetune.epochs": [1, 2]}
    raw["tasks"] = {
        "reverse": {"query": raw["data"].pop("query"), "test": raw["data"].pop("test")},
        "add": {"query": other, "test": other},
    }
    config = parse_config(raw)
    found = [(each.max_length, [s.side for s in each.sides]) for each in previews(config)]
    everything, own = ["pool", "query", "test"], ["query", "test"]
    assert found == [(64, everything), (128, everything), (64, own), (128, own)]
    first, _ = previews(config, task="add")
    assert "add" in first.name
    assert first.sides[1].where == "builtin"
    with pytest.raises(InputError, match=r"--task: nothing is not one of .* \(reverse, add\)"):
        previews(config, task="nothing")


def test_a_side_without_a_usable_row_is_refused(tmp_path: Path, pool: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"dialogue": 1}\n{"dialogue": 2}')
    with pytest.raises(
        InputError, match=r"data.pool: .*2 no_messages \(bad.jsonl line 1, 2\).*columns"
    ):
        previews(study(tmp_path, bad))


def test_a_preview_reads_what_a_run_reads(tmp_path: Path, pool: Path) -> None:
    config = study(tmp_path, pool)
    (found,) = previews(config, rows=100, sides=["pool"], whole=True)
    read = {row["id"] for row in read_rows(config.data.pool) if isinstance(row, dict)}
    assert {row.id for row in found.sides[0].rows} <= read


def test_rows_that_are_near_an_earlier_one_are_counted(tmp_path: Path) -> None:
    words = " ".join(f"word{n}" for n in range(40))
    rows = [pair(words, "yes"), pair("another question", "no"), pair(f"{words} and more", "yes")]
    pool = tmp_path / "pool.jsonl"
    pool.write_text("\n".join(map(json.dumps, [*rows, rows[1]])))
    (found,) = previews(study(tmp_path, pool, data__max_length=512), sides=["pool"])
    equal, near = found.sides[0].repeats
    assert equal.startswith("1 repeat an earlier row word for word (pool.jsonl line 4); ")
    assert near == "1 are near an earlier row (pool.jsonl line 3); overlap: {pool: near} drops them"


@pytest.mark.parametrize("every", [True, False])
def test_test_rows_that_are_queries_are_told(tmp_path: Path, pool: Path, every: bool) -> None:
    rows = [pair(f"question {n}", "yes") for n in range(6)]
    for name, own in ("query", rows[:4]), ("test", rows[2:4] if every else rows[3:]):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, own)))
    files = {side: str(tmp_path / f"{side}.jsonl") for side in ("query", "test")}
    config = study(tmp_path, pool, data__query=files["query"], data__test=files["test"])
    (found,) = previews(config)
    (line,) = [line for line in found.problems if line.startswith("data.test")]
    said = "all of its 2 rows are queries" if every else "1 of its 3 rows are queries"
    assert said in line
    assert line.endswith("a run refuses this") == every
