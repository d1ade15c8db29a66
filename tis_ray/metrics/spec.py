"""The spec of a metric (how it scores, which way it improves, in percent or not), and their registry.

Every metric reads something in the answer and compares it with the references, any of which may be
right. If there is nothing to read, the answer counts as wrong *and* as a parse failure: a model that
has lost the form of an answer is not the same as one that has lost the knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeVar

from tis_ray.errors import InputError
from tis_ray.methods import Method, Methods, settings_of, summary_of
from tis_ray.section import Section

T = TypeVar("T")


@dataclass(frozen=True)
class Score:
    """The score of one answer: its value, and what was read in the answer (None: nothing)."""

    value: float
    read: str | None


TAKEN = frozenset(
    [
        "answer",
        "artifact",
        "budget",
        "draw",
        "fingerprint",
        "finished",
        "id",
        "label",
        "loss",
        "model",
        "no_template",
        "optimizer_steps",
        "peak_mb",
        "quantile",
        "query_loss",
        "representation",
        "rows",
        "seconds",
        "seconds_train",
        "seed",
        "selector",
        "subset",
        "test_loss",
        "train_loss",
        "train_rows",
        "train_tokens",
        "unfinished",
    ]
)
"""Names of results that are not metrics; a metric of such a name would overwrite them."""


@dataclass(frozen=True, kw_only=True)
class Metric(Method):
    """A measure of generated answers.

    score: (answer, references, **settings) -> the answer's score; any of the references may be right.
    check: raises InputError if a reference cannot be read at all.
    lower_is_better: which way it improves. share: whether it is a share of rows, 0 to 1, shown as a
    percentage.
    """

    score: Callable[..., Score]
    check: Callable[[str], object] | None = None
    lower_is_better: bool = False
    share: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name in TAKEN or self.name.endswith(("_parse_failures", "_read")):
            raise InputError(f"metric name {self.name!r} is reserved for other results; rename it")

    def graded(self, answer: str, references: Sequence[str], settings: Section) -> Score:
        """Return an answer's score; InputError for a value that would spoil every mean it is part of."""
        score = self.score(answer, references, **dict(settings))
        if not isfinite(score.value) or (self.share and not 0 <= score.value <= 1):
            allowed = "a value from 0 to 1" if self.share else "a finite value"
            raise InputError(
                f"metric {self.name}: returned {score.value} for {answer[:60]!r}; return {allowed}"
            )
        return score


def as_metric(function: object, name: str) -> Metric | None:
    """Return the metric that a function (answer, references) -> number stands for.

    The function may return None if there is nothing to read in the answer. Its keyword-only arguments
    are its settings; `lower_is_better`, `share` and `label` may be attributes of the function.
    """
    if not callable(function) or isinstance(function, type):
        return None

    def score(answer: str, references: Sequence[str], **settings: object) -> Score:
        value = function(answer, references, **settings)
        if isinstance(value, Score):
            return value
        return Score(0.0, None) if value is None else Score(float(value), answer)

    own = name.rpartition(".")[2]
    return Metric(
        name=own,
        label=getattr(function, "label", ""),
        summary=summary_of(function),
        Settings=settings_of(function, own),
        score=score,
        lower_is_better=getattr(function, "lower_is_better", False),
        share=getattr(function, "share", False),
    )


METRICS: Methods[Metric] = Methods("metric", "tis_ray.metrics", Metric, as_metric)


def check_references(metric: str, references: Sequence[str]) -> None:
    """Raise InputError if a metric cannot read one of the references."""
    check = METRICS.find(metric).check
    if check is not None:
        for reference in references:
            check(reference)


def reference_value(reader: Callable[[str], T | None], what: str, reference: str) -> T:
    """Return what a reader finds in a reference answer; InputError, naming `what`, if nothing."""
    value = reader(reference)
    if value is None:
        raise InputError(f"there is no {what} in the reference answer {reference[:60]!r}")
    return value
