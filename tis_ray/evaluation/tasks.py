"""Tasks: questions with answers, and how they are asked and graded. Nothing is fetched from anywhere."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from tis_ray.data import Message
from tis_ray.metrics import METRICS
from tis_ray.settings import Section, Stop

PASS_AT_1 = "pass_at_1"  # noqa: S105
"""What code tasks are graded by: whether the program passes its tests."""


def _task_metric(name: str) -> str:
    return name if name == PASS_AT_1 else METRICS.checked(name)


TaskMetric = Annotated[str, AfterValidator(_task_metric)]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
CODE_INSTRUCTION = (
    "Complete the following Python function. Answer with the whole function in a code block.\n\n"
)
CODE_STOP = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\nassert ", "\n```")
"""What ends the completion of a function that is not in a code block: the next thing at its level."""


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"has {groups} groups; put one pair of brackets around the answer")
    return pattern


class Asking(Section):
    """How the rows of a task are asked and graded."""

    instruction: str | None = None
    """Text before each question where prompts have a template; a code task has one of its own."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer."""
    stop: tuple[Stop, ...] = ()
    """Strings that end an answer."""
    plain_stop: tuple[Stop, ...] | None = None
    """The same where prompts have no template; null is `evaluation.plain_stop`, and for a code task
    whatever begins the next definition."""
    answer_pattern: Annotated[str, AfterValidator(_one_group)] | None = None
    """Regular expression with one group: its first match in an answer is what is compared. Where it
    does not match, the answer is a parse failure."""
    timeout: float = Field(10.0, gt=0)
    """Code tasks: seconds that a program may run."""
    memory_mb: int = Field(1024, ge=64)
    """Code tasks: memory that a program may use."""


class TaskFile(Asking):
    """A task file."""

    name: str | None = Field(None, pattern=NAME)
    """Name in results; null is the file's."""
    rows: str | tuple[dict[str, Any], ...]
    """Path of the rows (.jsonl or .json), from the folder of the task file; or the rows themselves."""
    limit: int | None = Field(None, ge=1)
    """Use the first so many rows; null uses all."""
    metric: TaskMetric | None = None
    """How answers are graded. Null: `pass_at_1` for rows with a `test`, else `exact_match`."""
    examples: str | tuple[dict[str, Any], ...] = ()
    """Solved rows that are shown before each question (few-shot): a path, or the rows themselves."""


@dataclass(frozen=True)
class TaskRow:
    """One question: its turns, of which the last is the user's, and what is right."""

    id: str
    messages: list[Message]
    references: list[str] = field(default_factory=list)
    """Right answers; any of them will do."""
    test: str = ""
    """Code: defines `check(candidate)`."""
    entry_point: str = ""
    """Code: the function that is tested."""


@dataclass(frozen=True)
class Task:
    """A task as it is measured: everything that its results depend on besides the model."""

    name: str
    metric: TaskMetric
    rows: list[TaskRow]
    asking: Asking
    examples: list[Message] = field(default_factory=list)
    """Solved questions, as turns of user and assistant."""

    @property
    def is_code(self) -> bool:
        """Whether grading means running what the model wrote."""
        return self.metric == "pass_at_1"

    def inputs(self) -> dict[str, Any]:
        """Return the task as plain data, for a fingerprint."""
        return {**asdict(self), "asking": self.asking.model_dump(mode="json")}

    def messages(self, row: TaskRow, *, plain: bool) -> list[Message]:
        """Return the turns that ask a row; plain prompts have no instruction."""
        instruction = "" if plain else self.asking.instruction or ""
        return [
            Message(role=turn["role"], content=instruction + turn["content"])
            if turn["role"] == "user"
            else turn
            for turn in (*self.examples, *row.messages)
        ]
