"""Task files are read as documented, and what is wrong with one is said in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tis_ray.errors import InputError
from tis_ray.evaluation import read_tasks
from tis_ray.evaluation.task_files import read_task
from tis_ray.evaluation.tasks import CODE_INSTRUCTION, CODE_STOP


def write(folder: Path, name: str, rows: list[Any], task: dict[str, Any] | None = None) -> Path:
    """Write rows, and a task file when there is more to say; return what names the task."""
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    if not task:
        return folder / f"{name}.jsonl"
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"rows": f"{name}.jsonl"} | task))
    return path


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_rows_alone_are_a_task(tmp_path: Path) -> None:
    task = read_task(write(tmp_path, "sums", [{"id": "a", "prompt": "1 + 1", "answer": 2}]))
    assert (task.name, task.metric) == ("sums", "exact_match")
    assert task.rows[0].messages == [user("1 + 1")]
    assert task.rows[0].references == ["2"]


def test_every_form_of_a_row_is_taken(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "two"}
    rows = [
        {"prompt": "q", "answer": "two"},
        {"question": "q", "answer": ["two", "2"], "other": None},
        {"messages": [{"role": "system", "content": "s"}, user("q")], "answer": "two"},
        {"messages": [user("q"), answer]},
        {"instruction": "q", "output": "two"},
        {"prompts": "<|user|>\nq\n<|assistant|>\n", "labels": "two"},
    ]
    task = read_task(write(tmp_path, "forms", rows))
    assert [row.references[0] for row in task.rows] == ["two"] * 6
    assert task.rows[1].references == ["two", "2"]
    assert all(row.messages[-1] == user("q") for row in task.rows)
    assert [row.id for row in task.rows] == ["1", "2", "3", "4", "5", "6"]


def test_a_file_says_how_rows_are_asked(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "gsm",
        [{"prompt": f"{n} + 1?", "answer": n + 1} for n in range(5)],
        {"name": "little-gsm", "metric": "numeric_match", "limit": 3, "instruction": "Think.\n"}
        | {"examples": [{"prompt": "1 + 1?", "answer": "#### 2"}]}
        | {"max_new_tokens": 9, "stop": ["\n"]},
    )
    task = read_task(path)
    assert (task.name, task.metric, len(task.rows)) == ("little-gsm", "numeric_match", 3)
    assert (task.asking.max_new_tokens, task.asking.stop) == (9, ("\n",))
    shown = [user("Think.\n1 + 1?"), {"role": "assistant", "content": "#### 2"}]
    assert task.messages(task.rows[0], plain=False) == [*shown, user("Think.\n0 + 1?")]
    plain = [turn["content"] for turn in task.messages(task.rows[0], plain=True)]
    assert plain == ["1 + 1?", "#### 2", "0 + 1?"]


def test_rows_and_examples_may_stand_in_the_file_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "shown.json").write_text(json.dumps([{"prompt": "a", "answer": "b"}]))
    path = tmp_path / "both.yaml"
    path.write_text("rows: [{prompt: q, answer: 7}]\nexamples: shown.json\n")
    task = read_task(path)
    assert task.rows[0].references == ["7"]
    assert [turn["content"] for turn in task.examples] == ["a", "b"]


def test_humaneval_rows_are_a_code_task(tmp_path: Path) -> None:
    row = {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    pass"}
    row |= {"test": "def check(candidate): pass", "entry_point": "f"}
    task = read_task(write(tmp_path, "human", [row]))
    assert task.is_code
    assert task.rows[0].id == "HumanEval/0"
    assert task.asking.plain_stop == CODE_STOP
    assert task.messages(task.rows[0], plain=False) == [user(CODE_INSTRUCTION + "def f():\n")]
    assert task.messages(task.rows[0], plain=True) == [user("def f():\n")]


ROW = {"prompt": "q", "answer": "a"}
SYSTEM = {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        ([], {}, r"t.jsonl: `rows` is empty"),
        ([ROW, {"prompt": "q"}], {}, r"t.jsonl: line 2: expected a question .* and an `answer`"),
        ([{"answer": "a"}], {}, r"line 1: has an `answer` but no question"),
        ([{"prompt": 3, "answer": "a"}], {}, r"line 1: `prompt`: expected a string, found 3"),
        ([{"prompt": "q", "answer": {}}], {}, r"line 1: `answer`: expected a string, a number"),
        ([{"prompt": "q", "answer": []}], {}, r"line 1: `answer`: expected a string"),
        ([{"messages": "q", "answer": "a"}], {}, r"line 1: `messages` cannot be used"),
        (
            [{"messages": [SYSTEM], "answer": "a"}],
            {},
            r"line 1: with an `answer`, `messages` must end in the user's turn",
        ),
        (["text"], {}, r"line 1: expected an object, found str"),
        ([ROW], {"metric": "numeric_match"}, r"row 1: numeric_match: there is no number in .* 'a'"),
        ([ROW], {"metric": "pass_at_1"}, r"row 1: a code task needs `prompt`, `test`"),
        ([ROW], {"metric": "bleu"}, r"t.yaml: `metric`: .*exact_match.*found 'bleu'"),
        ([ROW], {"metrics": ["f1"]}, r"`metrics` is not a known key; known keys: .*metric"),
        ([ROW], {"limit": 0}, r"`limit`: .*greater than or equal to 1; found 0"),
        ([ROW], {"answer_pattern": "is .*"}, r"`answer_pattern`: has 0 groups; put one pair"),
        ([ROW], {"answer_pattern": "("}, r"`answer_pattern`: not a regular expression"),
        ([ROW], {"stop": [""]}, r"`stop`"),
        ([ROW], {"name": "a/b"}, r"`name`"),
        ([ROW], {"rows": "gone.jsonl"}, r"gone.jsonl: no such file"),
        ([ROW], {"rows": "t.parquet"}, r"`rows`: found 't.parquet'; give a .jsonl or .json file"),
        ([ROW], {"examples": [{"prompt": "q"}]}, r"`examples`: row 1: expected a question"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, rows: list[Any], task: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, "t", rows, task)
    with pytest.raises(InputError, match=message) as error:
        read_task(path)
    assert "\n" not in str(error.value)


def test_files_that_are_no_tasks(tmp_path: Path) -> None:
    for text, message in (
        ("- 1", "expected `key: value` lines, found list"),
        ("a: [", "cannot be read as YAML"),
        ("metric: f1", "`rows`: Field required"),
    ):
        (tmp_path / "t.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            read_task(tmp_path / "t.yaml")
    with pytest.raises(InputError, match="no such file; check the path"):
        read_task(tmp_path / "gone.yaml")
    (tmp_path / "t.jsonl").write_text('{"prompt": ')
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_task(tmp_path / "t.jsonl")
    with pytest.raises(InputError, match="'my task' cannot be the name of a task"):
        read_task(write(tmp_path, "my task", [ROW]))


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    path = str(write(tmp_path, "t", [ROW]))
    with pytest.raises(InputError, match="two tasks are named 't'"):
        read_tasks([path, path])


def test_what_a_task_is_decides_its_fingerprint(tmp_path: Path) -> None:
    from tis_ray.store import fingerprint

    path = write(tmp_path, "t", [ROW], {"max_new_tokens": 5})
    first = fingerprint(read_task(path).inputs())
    assert fingerprint(read_task(path).inputs()) == first
    write(tmp_path, "t", [ROW | {"answer": "b"}], {"max_new_tokens": 5})
    second = fingerprint(read_task(path).inputs())
    write(tmp_path, "t", [ROW], {"max_new_tokens": 6})
    assert len({first, second, fingerprint(read_task(path).inputs())}) == 3
