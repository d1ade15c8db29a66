"""Evaluating one cell: what is measured and how, and a check of that before anything is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from torch.nn import Module

from tis_ray.config import Config
from tis_ray.data import PromptTemplate, Template, encode_query_row, end_marks
from tis_ray.errors import InputError
from tis_ray.evaluation import (
    Task,
    allow_code,
    identify,
    measure_answers,
    measure_harness,
    measure_rows,
    read_tasks,
    task_prompts,
    unprotected,
)
from tis_ray.evaluation.measure import MetricSettings
from tis_ray.log import RunLog
from tis_ray.metrics import METRICS, check_references
from tis_ray.models.loading import from_anywhere, load_tokenizer
from tis_ray.settings import EvaluationConfig, ModelConfig
from tis_ray.storage import Place, listed
from tis_ray.store import Artifact, TableRow, fingerprint, read_parquet, write_parquet
from tis_ray.store.sides import Side, row_dicts

_BY_CONTENT = {"metrics", "tasks", "run_code", "lm_eval", "engine"}
"""Settings that name something, or that change no result: what they name counts."""
NO_TEMPLATE = "no_template"
TEST_ROWS, QUERY_ROWS = "test_rows.parquet", "query_rows.parquet"
"""Key and folder, in the artifact of zero-shot, of what was measured without a template."""


def check_evaluation(config: Config, test: Artifact, log: RunLog) -> None:
    """Raise InputError for what could not be evaluated, before anything is trained.

    `test` holds the rows of the test side. What would be evaluated, but not quite as expected, is logged.
    """
    _check_test_rows(config, test)
    tasks = read_tasks(config.evaluation.tasks)
    for task in tasks:
        allow_code(task, config.evaluation)
    _benchmarks(config.evaluation)
    for task in tasks:
        if task.name in {other.task for other in config.evaluation.lm_eval}:
            raise InputError(
                f"evaluation.tasks: {task.name!r} is a task of evaluation.lm_eval too; rename one"
            )
    if tasks:
        _say_what_is_cut(config, tasks, log)
    if any(task.is_code for task in tasks) and (ways := unprotected()):
        log.say(
            ("run_code:", "yellow"),
            f" on this machine nothing keeps generated programs from {ways}",
        )


def _benchmarks(settings: EvaluationConfig) -> list[object]:
    return identify(tuple(settings.lm_eval), settings.run_code, settings.engine)


def _say_what_is_cut(config: Config, tasks: Sequence[Task], log: RunLog) -> None:
    tokenizer, longest = load_tokenizer(config.model), config.data.max_length
    for task in tasks:
        lengths = [len(ids) for ids in task_prompts(tokenizer, task, config.data.template)]
        cut = sum(length > longest for length in lengths)
        if cut:
            log.say(
                (f"{task.name}:", "yellow"),
                f" {cut} of {len(lengths)} prompts are longer than data.max_length {longest}"
                f" (up to {max(lengths)} tokens); their beginnings are cut off",
            )


def _check_test_rows(config: Config, test: Artifact) -> None:
    for path in listed(test.path, "rows-*.parquet"):
        for row in row_dicts(path):
            answers = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
            for name in config.evaluation.metrics:
                try:
                    check_references(name, [row.get("label", answers[-1])])
                except InputError as error:
                    raise InputError(
                        f"evaluation.metrics: {name}: test row {row['id']}: {error}; "
                        "leave the metric out, or repair the row"
                    ) from None


@dataclass(frozen=True)
class Evaluation:
    """What each model of a study is measured on, and how. Small: it is sent to the workers."""

    model: ModelConfig
    settings: EvaluationConfig
    query: Side
    test: Side
    template: Template
    max_length: int
    tasks: tuple[Task, ...]
    benchmarks: list[object]
    """What results of lm-eval depend on."""
    metric_settings: MetricSettings = field(default_factory=dict)
    """Settings of metrics from outside, by their names."""

    @classmethod
    def of(cls, config: Config, query: Side, test: Side) -> Evaluation:
        """Return the evaluation of a study."""
        data = config.data
        return cls(
            model=from_anywhere(config.model),
            settings=config.evaluation,
            query=query,
            test=test,
            template=data.template,
            max_length=data.max_length,
            tasks=tuple(read_tasks(config.evaluation.tasks)),
            benchmarks=_benchmarks(config.evaluation),
            metric_settings=config.settings,
        )

    @property
    def _metrics(self) -> list[str]:
        """Every metric that answers are graded by: of the test rows, then of the tasks."""
        return [*self.settings.metrics, *(t.metric for t in self.tasks if not t.is_code)]

    def inputs(self) -> dict[str, object]:
        """Return what its results depend on besides the model."""
        return {
            "evaluation": self.settings.model_dump(mode="json", exclude=_BY_CONTENT),
            "metrics": [_identity(name, self.metric_settings) for name in self._metrics],
            "tasks": [fingerprint(task.inputs()) for task in self.tasks],
            "benchmarks": self.benchmarks,
            "query": self.query.tokens.fingerprint,
            "test": self.test.tokens.fingerprint,
        }


def _identity(name: str, settings: MetricSettings) -> object:
    metric = METRICS.find(name)
    return metric.identity(metric.Settings.model_validate(settings.get(metric.name, {})))


def evaluate(model: Module, evaluation: Evaluation, folder: Place) -> dict[str, float]:
    """Measure a model; write the results of each row into `folder`; return the means."""
    tokenizer = load_tokenizer(evaluation.model)
    rows = [side.examples() for side in (evaluation.query, evaluation.test)]
    return _measure(model, tokenizer, rows, evaluation, evaluation.template, folder)


def evaluate_without_template(
    model: Module, evaluation: Evaluation, folder: Place
) -> dict[str, float]:
    """Do the same on prompts that are bare text; `plain_stop` ends the answers to them."""
    start = time.monotonic()
    tokenizer = load_tokenizer(evaluation.model)
    rows = [
        _plain_examples(side, tokenizer, evaluation.max_length)
        for side in (evaluation.query, evaluation.test)
    ]
    metrics = _measure(model, tokenizer, rows, evaluation, "plain", folder)
    return metrics | {"seconds": time.monotonic() - start}


def _measure(
    model: Module,
    tokenizer: Any,
    rows: Sequence[list[TableRow]],
    evaluation: Evaluation,
    template: PromptTemplate,
    folder: Place,
) -> dict[str, float]:
    settings = evaluation.settings
    marks = end_marks(tokenizer, template)
    stop = settings.plain_stop if template == "plain" else tuple(marks.texts)
    query, test = rows
    measured = measure_rows(
        model, tokenizer, query, test, settings, stop, marks.tokens, evaluation.metric_settings
    )
    write_parquet(folder / TEST_ROWS, pa.table(measured.rows))
    write_parquet(folder / QUERY_ROWS, pa.table(measured.queries))
    metrics = dict(measured.metrics)
    for task in evaluation.tasks:
        answers = measure_answers(
            model,
            tokenizer,
            task,
            settings,
            template,
            evaluation.max_length,
            evaluation.metric_settings,
        )
        write_parquet(folder / "tasks" / f"{task.name}.parquet", pa.table(answers.rows))
        metrics |= answers.metrics
    if settings.lm_eval:
        for name, answers in measure_harness(model, tokenizer, settings, template).items():
            write_parquet(folder / "tasks" / f"{name}.parquet", pa.table(answers.rows))
            metrics |= answers.metrics
    return metrics


def _plain_examples(side: Side, tokenizer: Any, max_length: int) -> list[TableRow]:
    """Encode the rows of `side.examples()` without a template."""
    ids = {row["row"]: row["id"] for row in side.examples()}
    examples = []
    for shard in range(side.shards):
        for row in row_dicts(side.rows / f"rows-{shard:05d}.parquet"):
            if row["row"] in ids:
                encoded = encode_query_row(row, tokenizer, max_length, "plain")
                examples.append({"id": row["id"], **encoded})
    return examples


def row_values(folder: Place, metrics: Mapping[str, object]) -> dict[str, list[float]]:
    """Read each row's value of the metrics that are means over rows, from what `evaluate` wrote.

    What has no value for each row (a metric of lm-eval that is no mean) is left out.
    """
    tables = {TEST_ROWS: "", QUERY_ROWS: ""}
    if any("/" in name for name in metrics):  # or else there are none, and a listing costs
        tables |= {
            f"tasks/{file.name}": f"{file.stem}/" for file in (folder / "tasks").glob("*.parquet")
        }
    found = {}
    for file, prefix in tables.items():
        if not (folder / file).exists():
            continue
        table = read_parquet(folder / file)
        for column in table.column_names:
            name = {"loss": "query_loss" if file == QUERY_ROWS else "test_loss"}.get(column, column)
            mean, kind = metrics.get(prefix + name), table.schema.field(column).type
            numeric = (
                pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
            )
            if not (isinstance(mean, float | int) and numeric):
                continue
            values = [float(value) for value in table[column].to_pylist()]
            if math.isclose(float(np.mean(values)), mean, rel_tol=1e-9, abs_tol=1e-12):
                found[prefix + name] = values
    return found
