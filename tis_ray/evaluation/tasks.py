"""Tasks: questions with answers, how they are put to a model, and how its answers are graded."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Annotated

from pydantic import AfterValidator, Field

from tis_ray.data import Message
from tis_ray.metrics import METRICS
from tis_ray.settings import Section, Stop

PASS_AT_1 = "pass_at_1"  # noqa: S105
"""The metric of code tasks: whether the program passes its tests."""


def _task_metric(name: str) -> str:
    return name if name == PASS_AT_1 else METRICS.checked(name)


TaskMetric = Annotated[str, AfterValidator(_task_metric)]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
CODE_INSTRUCTION = (
    "Complete the following Python function. Answer with the whole function in a code block.\n\n"
)
CODE_STOP = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\nassert ", "\n```")
"""Ends of the completion of a function that is not in a code block: whatever follows at its level."""


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"has {groups} groups; put one pair of brackets around the answer")
    return pattern


class Asking(Section):
    """How the questions of a task are put to the model, and how its answers are read."""

    instruction: str | None = None
    """Text before each question if prompts have a template; code tasks have a default."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens."""
    stop: tuple[Stop, ...] = ()
    """Strings that end an answer."""
    plain_stop: tuple[Stop, ...] | None = None
    """Strings that end an answer to a prompt without a template; null uses `evaluation.plain_stop` or,
    for a code task, whatever begins the next definition."""
    answer_pattern: Annotated[str, AfterValidator(_one_group)] | None = None
    """Regular expression with one group, whose first match in an answer is compared. An answer without
    a match is a parse failure."""
    timeout: float = Field(10.0, gt=0)
    """Code tasks: seconds that a program may run."""
    memory_mb: int = Field(1024, ge=64)
    """Code tasks: memory that a program may use, in MB."""


class TaskFile(Asking):
    """A task file."""

    name: str | None = Field(None, pattern=NAME)
    """Name in results; null uses the file's name."""
    rows: str | tuple[dict[str, object], ...]
    """Path of the rows (.jsonl or .json), relative to the task file; or the rows themselves."""
    limit: int | None = Field(None, ge=1)
    """Use only the first rows, this many; null uses all."""
    metric: TaskMetric | None = None
    """How answers are graded; null uses `pass_at_1` for rows with a `test`, else `exact_match`."""
    examples: str | tuple[dict[str, object], ...] = ()
    """Solved rows that are shown before each question (few-shot): a path, or the rows themselves."""


@dataclass(frozen=True)
class TaskRow:
    """One question: its turns, the last of which is the user's, and its right answers or its test."""

    id: str
    messages: list[Message]
    references: list[str] = field(default_factory=list)
    """Right answers, any of which will do."""
    test: str = ""
    """Code tasks: defines `check(candidate)`."""
    entry_point: str = ""
    """Code tasks: the name of the function that is tested."""


@dataclass(frozen=True)
class Task:
    """A task as it is measured: everything but the model that its results depend on."""

    name: str
    metric: TaskMetric
    rows: list[TaskRow]
    asking: Asking
    examples: list[Message] = field(default_factory=list)
    """Solved questions, as turns of user and assistant."""

    @property
    def is_code(self) -> bool:
        """Whether grading runs what the model wrote."""
        return self.metric == "pass_at_1"

    def inputs(self) -> dict[str, object]:
        """Return the task as plain data, for a fingerprint."""
        return {**asdict(self), "asking": self.asking.model_dump(mode="json")}

    def messages(self, row: TaskRow, *, plain: bool) -> list[Message]:
        """Return the turns of a row's prompt; plain prompts have no instruction."""
        instruction = "" if plain else self.asking.instruction or ""
        return [
            Message(role=turn["role"], content=instruction + turn["content"])
            if turn["role"] == "user"
            else turn
            for turn in (*self.examples, *row.messages)
        ]
