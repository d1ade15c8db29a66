"""What a generated answer is worth: is the right thing in it, and is there anything in it to read?

Every metric reads something out of the answer and compares it with the references, any of which may
be right. Where there is nothing to read, the answer counts as wrong *and* as a parse failure: a model
that has lost the form of an answer is not the same as one that has lost the knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from tis_ray.errors import InputError
from tis_ray.methods import Method, Methods, settings_of, summary_of
from tis_ray.section import Section


@dataclass(frozen=True)
class Score:
    """One answer: its value from 0 to 1, and what was read out of it (None: nothing)."""

    value: float
    read: str | None


TAKEN = frozenset(
    [
        "answer",
        "artifact",
        "budget",
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
"""What results hold beside metrics, by their names; a metric of such a name would stand in their place."""


@dataclass(frozen=True, kw_only=True)
class Metric(Method):
    """A measure of generated answers.

    score: (answer, references, **settings) -> what it is worth; any of the references may be right.
    check: raises InputError where a reference cannot be read at all.
    lower_is_better: which way it improves. share: whether it is a share of rows, 0 to 1, shown in
    percent.
    """

    score: Callable[..., Score]
    check: Callable[[str], Any] | None = None
    lower_is_better: bool = False
    share: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name in TAKEN or self.name.endswith(("_parse_failures", "_read")):
            raise InputError(f"metric name {self.name!r} is taken by the results; rename it")

    def graded(self, answer: str, references: Sequence[str], settings: Section) -> Score:
        """Return what an answer is worth; InputError for what would spoil every mean it is in."""
        found = self.score(answer, references, **dict(settings))
        if not isfinite(found.value) or (self.share and not 0 <= found.value <= 1):
            allowed = "a value from 0 to 1" if self.share else "a finite value"
            raise InputError(
                f"metric {self.name}: {found.value} for {answer[:60]!r}; give {allowed}"
            )
        return found


def as_metric(found: Any, name: str) -> Metric | None:
    """Return the metric that a function (answer, references) -> number stands for.

    It may return None where the answer holds nothing to read. Its keyword-only arguments are its
    settings; `lower_is_better`, `share` and `label` may be attributes of the function.
    """
    if not callable(found) or isinstance(found, type):
        return None

    def score(answer: str, references: Sequence[str], **settings: Any) -> Score:
        value = found(answer, references, **settings)
        if isinstance(value, Score):
            return value
        return Score(0.0, None) if value is None else Score(float(value), answer)

    own = name.rpartition(".")[2]
    return Metric(
        name=own,
        label=getattr(found, "label", ""),
        summary=summary_of(found),
        Settings=settings_of(found, own),
        score=score,
        lower_is_better=getattr(found, "lower_is_better", False),
        share=getattr(found, "share", False),
    )


METRICS: Methods[Metric] = Methods("metric", "tis_ray.metrics", Metric, as_metric)


def check_references(metric: str, references: Sequence[str]) -> None:
    """Raise InputError where a metric cannot read the references themselves."""
    check = METRICS.find(metric).check
    for reference in references if check is not None else ():
        assert check is not None
        check(reference)


def reference_value(reader: Callable[[str], Any], what: str, reference: str) -> Any:
    """Return what a reader finds in a reference answer, or raise InputError where it finds nothing."""
    found = reader(reference)
    if found is None:
        raise InputError(f"found no {what} in the reference answer {reference[:60]!r}")
    return found
