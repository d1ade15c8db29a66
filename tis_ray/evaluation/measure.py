"""One model on one set of rows: the numbers, and the rows they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tis_ray.config import EvaluationConfig
from tis_ray.evaluation.answers import METRICS
from tis_ray.evaluation.generation import generate
from tis_ray.evaluation.loss import example_losses
from tis_ray.gradients import IGNORED


@dataclass(frozen=True)
class Measured:
    """Means by name, and what was found for each row: columns of equal length."""

    metrics: dict[str, float]
    rows: dict[str, Any]


def measure_rows(
    model: Any,
    tokenizer: Any,
    query: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    settings: EvaluationConfig,
    stop: Sequence[str] = (),
    ends: Sequence[int] = (),
) -> Measured:
    """Measure the losses of encoded query and test rows, and answers generated on the test rows.

    The query loss is the paper's: each query's mean cross-entropy over the tokens of its label and
    the eos, and the plain mean of these over the queries. Test loss is the same of the test rows.
    `stop` and `ends` end answers, as in `generate`.
    """
    losses = example_losses(model, test)
    metrics = {
        "query_loss": float(example_losses(model, query).mean()),
        "test_loss": float(losses.mean()),
    }
    columns: dict[str, Any] = {"id": [row["id"] for row in test], "loss": losses}
    if settings.metrics:
        split = [next(i for i, y in enumerate(row["labels"]) if y != IGNORED) for row in test]
        prompts = [row["input_ids"][:cut] for row, cut in zip(test, split, strict=True)]
        labels = [
            tokenizer.decode(row["input_ids"][cut:], skip_special_tokens=True)
            for row, cut in zip(test, split, strict=True)
        ]
        size = settings.batch_size
        answers = generate(model, tokenizer, prompts, settings.max_new_tokens, size, stop, ends)
        texts = [answer.text for answer in answers]
        graded = grade(texts, [[label] for label in labels], settings.metrics)
        metrics |= graded.metrics
        metrics["unfinished"] = float(np.mean([not answer.finished for answer in answers]))
        columns |= {"label": labels, "answer": texts}
        columns |= {"finished": [answer.finished for answer in answers], **graded.rows}
    return Measured(metrics, columns)


def grade(
    answers: Sequence[str], references: Sequence[Sequence[str]], metrics: Sequence[str]
) -> Measured:
    """Score answers, each against its references: every metric with its share of parse failures.

    The columns are each metric's value by row, and what it read out of the answer (None: nothing).
    """
    means: dict[str, float] = {}
    columns: dict[str, Any] = {}
    for name in metrics:
        scores = [METRICS[name](a, r) for a, r in zip(answers, references, strict=True)]
        means[name] = float(np.mean([score.value for score in scores]))
        means[f"{name}_parse_failures"] = float(np.mean([score.read is None for score in scores]))
        columns[name] = [score.value for score in scores]
        columns[f"{name}_read"] = [score.read for score in scores]
    return Measured(means, columns)
