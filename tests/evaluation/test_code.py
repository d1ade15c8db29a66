"""Answers become the program that their author meant, and programs are graded by running them."""

from __future__ import annotations

import pytest

from tis_ray.evaluation.code import grade_code, program
from tis_ray.evaluation.sandbox import run_program
from tis_ray.evaluation.tasks import Asking, Task, TaskRow

PROMPT = 'import math\n\ndef root(x: float) -> float:\n    """Return the square root.\n    >>> root(4)\n    2.0\n    """\n'
TEST = "def check(candidate):\n    assert candidate(4) == 2\n    assert candidate(9) == 3\n"
ROW = TaskRow("root", [{"role": "user", "content": PROMPT}], test=TEST, entry_point="root")
SIGN = "def root(x):\n"


@pytest.mark.parametrize(
    "answer",
    [
        "    return math.sqrt(x)\n",
        "return math.sqrt(x)",  # a tokenizer dropped the spaces
        " return math.sqrt(x)",
        "\n    y = math.sqrt(x)\n    return y\n",
        f"{SIGN}    return math.sqrt(x)\n",
        f"def helper(x):\n    return x ** 0.5\n\n{SIGN}    return helper(x)\n",
        f"Here it is:\n```python\n{SIGN}    return math.sqrt(x)\n```\nIt uses `math`.",
        f"```\nprint('first')\n```\n```py\n{SIGN}    return x ** 0.5\n```",
        f"```python\n{SIGN}    return math.sqrt(x)\n",  # the answer was cut off
        "```python\n    return math.sqrt(x)\n```",
    ],
)
def test_right_answers_pass_in_whatever_form(answer: str) -> None:
    assert run_program(program(ROW, answer)).kind == "passed"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("    return x", "assertion"),
        ("    return (", "syntax"),
        ("I cannot do that.", "syntax"),
        ("    while True: pass", "timeout"),
        ("    return sqrt(x)", "other"),
        ("    import os; os._exit(0)", "other"),
        ("", "assertion"),  # the docstring alone is a function
    ],
)
def test_wrong_answers_fail_and_say_how(answer: str, kind: str) -> None:
    assert run_program(program(ROW, answer), timeout=1).kind == kind


def test_pass_at_1_and_the_kinds_of_failure_are_shares_of_rows() -> None:
    task = Task("roots", "pass_at_1", [ROW] * 5, Asking(timeout=1))
    answers = ["    return x ** 0.5", "    return x", "I cannot.", "    while True: pass", ""]
    found = grade_code(task, answers)
    assert found.metrics == {
        "pass_at_1": 0.2,
        "pass_at_1_parse_failures": 0.4,  # no Python, and nothing at all
        "failed_syntax": 0.2,
        "failed_assertion": 0.4,
        "failed_timeout": 0.2,
        "failed_other": 0.0,
    }
    assert found.rows["outcome"] == ["passed", "assertion", "syntax", "timeout", "assertion"]
