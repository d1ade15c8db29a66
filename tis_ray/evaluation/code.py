"""Grading of code tasks: answers become programs, which are run (HumanEval, Chen et al. 2021)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tis_ray.evaluation.grading import Measured
from tis_ray.evaluation.sandbox import run_program
from tis_ray.evaluation.tasks import Task, TaskRow

FAILURES = ("syntax", "assertion", "timeout", "other")
_BLOCK = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


def grade_code(task: Task, answers: Sequence[str]) -> Measured:
    """Run each answer against its row's tests; return pass@1 (one greedy answer) and the failures.

    Answers that are not Python, or that are empty, are the parse failures. This runs what the model
    wrote (in `tis_ray.evaluation.sandbox`), so callers must make sure that it is allowed.
    """
    asking = task.asking
    outcomes = [
        run_program(program(row, answer), asking.timeout, asking.memory_mb)
        for row, answer in zip(task.rows, answers, strict=True)
    ]
    kinds = [outcome.kind for outcome in outcomes]
    unread = [
        kind == "syntax" or not answer.strip() for kind, answer in zip(kinds, answers, strict=True)
    ]
    metrics = {
        "pass_at_1": float(np.mean([kind == "passed" for kind in kinds])),
        "pass_at_1_parse_failures": float(np.mean(unread)),
    }
    for failure in FAILURES:
        metrics[f"failed_{failure}"] = float(np.mean([kind == failure for kind in kinds]))
    details = [outcome.detail for outcome in outcomes]
    passed = [float(kind == "passed") for kind in kinds]
    return Measured(metrics, {"outcome": kinds, "detail": details, "pass_at_1": passed})


def program(row: TaskRow, answer: str) -> str:
    """Return the program that grades an answer: the function, the row's test, and its call.

    A code block takes precedence over the text around it. An answer that defines the function itself
    follows what the prompt has before it (imports); any other answer continues the prompt.
    """
    prompt = row.messages[-1]["content"]
    defined = re.compile(rf"^def\s+{re.escape(row.entry_point)}\b", re.MULTILINE)
    blocks = _BLOCK.findall(answer)
    code = next((block for block in blocks if defined.search(block)), (blocks or [answer])[0])
    if defined.search(code):
        head = defined.search(prompt)
        function = prompt[: head.start() if head else 0] + code
    else:
        function = prompt.rstrip() + "\n" + _as_body(code, prompt)
    return f"{function}\n\n{row.test}\n\ncheck({row.entry_point})\n"


def _as_body(code: str, prompt: str) -> str:
    """Indent the first line like the prompt's last one: tokenizers drop an answer's leading spaces."""
    code = code.lstrip("\n")
    last = prompt.rstrip().rpartition("\n")[2]
    indent = len(last) - len(last.lstrip())
    own = len(code) - len(code.lstrip(" "))
    return " " * max(0, indent - own) + code
