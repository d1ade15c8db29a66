"""Reading of task files: YAML with questions and answers, or just the rows.

A task is a YAML file (`TaskFile` lists its keys) or, if the defaults will do, just a .jsonl of rows. A
row has a question, as `prompt` (or `question`) or as `messages` that end before the answer, and an
`answer`: a text, a number, or a list of answers that are all right. Rows in one of the pool's formats
are accepted too, with their last assistant turn as the answer. A row of a code task has `prompt`,
`test` and `entry_point`, like HumanEval's. Other fields are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import yaml
from pydantic import ValidationError

from tis_ray.data import Message, Record, Rejected, checked_rows, read_records
from tis_ray.errors import InputError
from tis_ray.evaluation.tasks import (
    CODE_INSTRUCTION,
    CODE_STOP,
    NAME,
    Asking,
    Task,
    TaskFile,
    TaskMetric,
    TaskRow,
)
from tis_ray.metrics import check_references
from tis_ray.storage import AnyPlace, Place, place
from tis_ray.store import read_text


def read_tasks(paths: Sequence[str]) -> list[Task]:
    """Read task files. Raises InputError if two tasks have the same name."""
    tasks = [read_task(path) for path in paths]
    for position, task in enumerate(tasks):
        if task.name in {other.name for other in tasks[:position]}:
            raise InputError(f"evaluation.tasks: two tasks are named {task.name!r}; rename one")
    return tasks


def read_task(path: AnyPlace) -> Task:
    """Read a task file. Raises InputError naming file, row and field for anything unusable."""
    path = place(path)
    if not path.is_file():
        raise InputError(f"evaluation.tasks: {path}: no such file; check the path")
    is_yaml = path.suffix in (".yaml", ".yml")
    file = _read_file(path) if is_yaml else TaskFile(rows=path.name)
    name = file.name or path.name.partition(".")[0]
    if not re.match(NAME, name):
        raise InputError(
            f"{path}: {name!r} cannot be the name of a task; give it a `name` in a .yaml file"
        )
    rows = list(_rows(path, "rows", file.rows))[: file.limit]
    if not rows:
        raise InputError(f"{path}: `rows` is empty; give at least one row")
    metric: TaskMetric = file.metric or ("pass_at_1" if rows[0].test else "exact_match")
    for row in rows:
        _check(path, row, metric)
    asking = {name: getattr(file, name) for name in Asking.model_fields}
    if metric == "pass_at_1":
        asking["instruction"] = CODE_INSTRUCTION if file.instruction is None else file.instruction
        asking["plain_stop"] = CODE_STOP if file.plain_stop is None else file.plain_stop
    return Task(
        name=name,
        metric=metric,
        rows=rows,
        asking=Asking(**asking),
        examples=list(_examples(path, file.examples)),
    )


def _read_file(path: Place) -> TaskFile:
    try:
        raw = yaml.safe_load(read_text(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({error})".partition("\n")[0]) from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected `key: value` lines, found {type(raw).__name__}")
    try:
        return TaskFile.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0]) if problem["loc"] else "file"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(TaskFile.model_fields)
            raise InputError(f"{path}: `{field}` is not a known key; known keys: {known}") from None
        message = problem["msg"].removeprefix("Value error, ")
        value = "" if problem["type"] == "missing" else f"; found {problem['input']!r}"
        raise InputError(f"{path}: `{field}`: {message}{value}") from None


def _rows(
    path: Place, field: str, source: str | Sequence[Mapping[str, object]]
) -> Iterator[TaskRow]:
    """Read rows from a file beside the task file, or from the task file itself."""
    if isinstance(source, str):
        file = path.parent / source
        if not file.name.endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz")):
            raise InputError(f"{path}: `{field}`: found {source!r}; give a .jsonl or .json file")
        records = read_records(file)
    else:
        records = (Record(str(path), n, row, "") for n, row in enumerate(source, 1))
    for record in records:
        try:
            yield _row(record)
        except InputError as error:
            where = f"{record.file}: `{field}`: row {record.line}"
            if isinstance(source, str):
                where = f"{record.file}: line {record.line}"
            raise InputError(f"{where}: {error}") from None


def _row(record: Record) -> TaskRow:
    value = record.value
    if record.broken is not None:
        raise InputError(f"not JSON ({record.broken})")
    if not isinstance(value, Mapping):
        raise InputError(f"expected an object, found {type(value).__name__}")
    fields = {str(key): field for key, field in value.items() if field is not None}
    name = str(fields.get("id", fields.get("task_id", record.line)))
    if "test" in fields and "entry_point" in fields:
        question, test, function = (_text(fields, k) for k in ("prompt", "test", "entry_point"))
        messages = [Message(role="user", content=question)]
        return TaskRow(id=name, messages=messages, test=test, entry_point=function)
    if "answer" in fields:
        return TaskRow(id=name, messages=_question(fields), references=_answers(fields["answer"]))
    (row,) = checked_rows([record], "test")
    if isinstance(row, Rejected):
        expected = "a question (`prompt`, `question` or `messages`) and an `answer`"
        raise InputError(f"expected {expected}, or a row as in the pool ({row.detail})")
    last = max(i for i, turn in enumerate(row["messages"]) if turn["role"] == "assistant")
    return TaskRow(
        id=name, messages=row["messages"][:last], references=[row["messages"][last]["content"]]
    )


def _question(fields: Mapping[str, object]) -> list[Message]:
    key = next((k for k in ("messages", "prompt", "question") if k in fields), None)
    if key is None:
        raise InputError("has an `answer` but no question; add `prompt` or `messages`")
    if key != "messages":
        return [Message(role="user", content=_text(fields, key))]
    question = fields["messages"]
    # The reader of the pool's rows checks the turns; it requires an answer to them.
    turns = [*question, {"role": "assistant", "content": ""}] if isinstance(question, list) else 0
    (row,) = checked_rows([Record("", 1, {"messages": turns}, "")], "test")
    if isinstance(row, Rejected):
        raise InputError(f"`messages` cannot be used ({row.detail})")
    if len(row["messages"]) < 2 or row["messages"][-2]["role"] != "user":
        raise InputError("with an `answer`, `messages` must end in the user's turn")
    return row["messages"][:-1]


def _answers(value: object) -> list[str]:
    answers = value if isinstance(value, list) else [value]
    if not answers or not all(
        isinstance(a, str | int | float) and not isinstance(a, bool) for a in answers
    ):
        raise InputError(
            f"`answer`: expected a string, a number or a list of them; found {value!r}"
        )
    return [str(answer) for answer in answers]


def _text(fields: Mapping[str, object], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"`{key}`: expected a string, found {value!r}")
    return value


def _examples(path: Place, source: str | Sequence[Mapping[str, object]]) -> Iterator[Message]:
    for row in _rows(path, "examples", source):
        if not row.references:
            raise InputError(f"{path}: `examples`: row {row.id} has no `answer`")
        yield from row.messages
        yield Message(role="assistant", content=row.references[0])


def _check(path: Place, row: TaskRow, metric: TaskMetric) -> None:
    if metric == "pass_at_1":
        if not row.test:
            raise InputError(
                f"{path}: row {row.id}: a code task needs `prompt`, `test` and `entry_point`"
            )
        return
    if not row.references:
        raise InputError(f"{path}: row {row.id}: `{metric}` needs an `answer`, found a code row")
    try:
        check_references(metric, row.references)
    except InputError as error:
        raise InputError(f"{path}: row {row.id}: {metric}: {error}") from None
