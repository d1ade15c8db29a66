"""The metrics of a cell by name: which way they improve, how they are read, and in what order.

A metric of the study's own query and test rows has a bare name (`test_loss`, `exact_match`); one of
a task carries the task's: `gsm8k/numeric_match`. Beside a metric that is read out of generated
answers, `<metric>_parse_failures` is the share of answers in which there was nothing to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PARSE_FAILURES = "_parse_failures"
"""What is put after a metric's name to name the share of answers that could not be read."""

_WORDS = {
    "test_loss": "test loss",
    "query_loss": "query loss",
    "exact_match": "exact match",
    "f1": "F1",
    "numeric_match": "numeric match",
    "choice_match": "choice match",
    "pass_at_1": "pass@1",
}
"""The named metrics in the order in which reports show them."""
_SHARES = {"acc", "acc_norm", "pass_at_1", "exact_match", "f1", "numeric_match", "choice_match"}
_LOWER = {"brier_score", "bits_per_byte", "ter"}
_BESIDE = {"unfinished", "cut_prompts", "rows", "seconds"}
"""What a task reports that is no measure of success."""


@dataclass(frozen=True)
class Metric:
    """How one metric is read."""

    name: str
    words: str
    """Its name in sentences."""
    lower_is_better: bool
    share: bool
    """Whether it is a share of rows, 0 to 1, which is shown in percent."""


def describe(name: str) -> Metric:
    """Return what is known of a metric from its name.

    Names of other makers (lm-eval's) are understood by their own conventions: perplexities and
    losses improve downwards, accuracies are shares, and a filter may follow after a point.
    """
    task, _, own = name.rpartition("/")
    base = own.partition(".")[0]
    words = _WORDS.get(own, own.replace("_", " "))
    return Metric(
        name,
        f"{task}: {words}" if task else words,
        base.endswith(("loss", "perplexity")) or base in _LOWER,
        base in _SHARES,
    )


def measured(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the metrics that any cell names: the study's own first, then those of tasks."""
    names = {name: None for cell in cells for name in cell}
    tasks = [name for name in names if "/" in name and _is_measure(name)]
    return [name for name in _WORDS if name in names] + tasks


def _is_measure(name: str) -> bool:
    own = name.rpartition("/")[2]
    return not own.endswith(PARSE_FAILURES) and not own.startswith("failed_") and own not in _BESIDE
