"""How each metric is read, lm-eval's too: lower or higher is better, in percent or not, in what order.

Of our own metrics of answers this is decided by their spec (`tis_ray.metrics`), which comes first.

A metric of the study's own query and test rows has a bare name (`test_loss`, `exact_match`); one of
a task carries the task's: `gsm8k/numeric_match`. Beside a metric that is read out of generated
answers, `<metric>_parse_failures` is the share of answers in which there was nothing to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

PARSE_FAILURES = "_parse_failures"
"""What is put after a metric's name to name the share of answers that could not be read."""

MARGIN = 0.02
"""Of shares, 2 points; of losses in nats, 2% of the perplexity."""

LOSSES = ("test_loss", "query_loss")
"""What is measured of every model, and stands first."""
"""Every study has these; reports begin with them."""
_SHARES = {"acc", "acc_norm", "pass_at_1", "exact_match", "f1"}
_LOWER = {"brier_score", "bits_per_byte", "ter"}
_BESIDE = {"unfinished", "cut_prompts", "rows", "seconds"}
"""What stands beside the metrics of a task and is no measure of success."""


@dataclass(frozen=True)
class MetricDescription:
    """How one metric is read."""

    name: str
    words: str
    """Its name in sentences."""
    lower_is_better: bool
    share: bool
    """Whether it is a share of rows, 0 to 1, which is shown in percent."""
    margin: float | None = None
    """Differences smaller than this do not matter; None where nobody said what does."""


def describe(name: str, known: Mapping[str, MetricDescription] | None = None) -> MetricDescription:
    """Return what is known of a metric, from its spec (`known`, by name) or from its name.

    Names of other makers (lm-eval's) are understood by their own conventions: perplexities and
    losses improve downwards, accuracies are shares, and a filter may follow after a point.
    """
    task, _, own = name.rpartition("/")
    base = own.partition(".")[0]
    found = (known or {}).get(own) or MetricDescription(
        own,
        own.replace("_at_", "@").replace("_", " "),
        base.endswith(("loss", "perplexity")) or base in _LOWER,
        base in _SHARES,
    )
    margin = found.margin
    if margin is None and (found.share or base.endswith("loss")):
        margin = MARGIN
    words = f"{task}: {found.words}" if task else found.words
    return replace(found, name=name, words=words, margin=margin)


def measured(cells: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the metrics that any cell has: losses first, then the study's own, then those of tasks."""
    names = [name for name in dict.fromkeys(n for cell in cells for n in cell) if _is_measure(name)]
    own = [name for name in names if "/" not in name and name not in LOSSES]
    tasks = [name for name in names if "/" in name]
    return [*(name for name in LOSSES if name in names), *own, *tasks]


def _is_measure(name: str) -> bool:
    own = name.rpartition("/")[2]
    return not own.endswith(PARSE_FAILURES) and not own.startswith("failed_") and own not in _BESIDE
