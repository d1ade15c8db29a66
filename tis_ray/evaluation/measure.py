"""Measuring of one model: losses and answers on query and test rows, and answers on tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from tis_ray.batches import IGNORED
from tis_ray.data import PromptTemplate, StoredRow, encode_prompt, end_marks
from tis_ray.errors import InputError
from tis_ray.evaluation.code import grade_code
from tis_ray.evaluation.generation import generate
from tis_ray.evaluation.grading import Column, Measured, MetricSettings, grade
from tis_ray.evaluation.loss import example_losses
from tis_ray.evaluation.tasks import Task
from tis_ray.models.lora import CausalLM
from tis_ray.settings import EvaluationConfig


def measure_rows(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    query: Sequence[StoredRow],
    test: Sequence[StoredRow],
    settings: EvaluationConfig,
    stop: Sequence[str] = (),
    ends: Sequence[int] = (),
    metric_settings: MetricSettings | None = None,
) -> Measured:
    """Measure the losses of encoded query and test rows, and the answers generated on test rows.

    The query loss is the paper's: each query's mean cross-entropy over the tokens of its label and
    the eos, and the plain mean of these over the queries. The test loss is the same for test rows.

    query, test: encoded rows; of the queries only tokens, labels and, if they have one, ids are read.
    stop, ends: what ends an answer, as in `generate`.
    """
    losses, asked = example_losses(model, test), example_losses(model, query)
    metrics = {
        "query_loss": float(asked.mean()),
        "test_loss": float(losses.mean()),
    }
    columns: dict[str, Column] = {"id": [row["id"] for row in test], "loss": losses}
    if settings.metrics:
        split = [next(i for i, y in enumerate(row["labels"]) if y != IGNORED) for row in test]
        prompts = [row["input_ids"][:cut] for row, cut in zip(test, split, strict=True)]
        labels = [
            _without_mark(tokenizer.decode(row["input_ids"][cut:], skip_special_tokens=True), stop)
            for row, cut in zip(test, split, strict=True)
        ]
        size = settings.batch_size
        answers = generate(model, tokenizer, prompts, settings.max_new_tokens, size, stop, ends)
        texts = [answer.text for answer in answers]
        references = [[label] for label in labels]
        graded = grade(texts, references, settings.metrics, settings=metric_settings)
        metrics |= graded.metrics
        metrics["unfinished"] = float(np.mean([not answer.finished for answer in answers]))
        columns |= {"label": labels, "answer": texts}
        columns |= {"finished": [answer.finished for answer in answers], **graded.rows}
    queries: dict[str, Column] = {"id": [row.get("id", "") for row in query], "loss": asked}
    return Measured(metrics, columns, queries)


def measure_answers(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    settings: EvaluationConfig,
    template: PromptTemplate,
    max_length: int,
    metric_settings: MetricSettings | None = None,
) -> Measured:
    """Generate and grade answers to a task's questions; metrics are named `task/metric`.

    A prompt that is too long keeps its last `max_length` tokens, because the question is at the end;
    `cut_prompts` is the share of such prompts. Raises InputError for a code task, unless
    `settings.run_code` allows it.
    """
    asking, plain = task.asking, template == "plain"
    whole = task_prompts(tokenizer, task, template)
    stop = asking.stop
    if plain:
        stop += settings.plain_stop if asking.plain_stop is None else asking.plain_stop
    marks = end_marks(tokenizer, template)
    answers = generate(
        model,
        tokenizer,
        [prompt[-max_length:] for prompt in whole],
        asking.max_new_tokens,
        settings.batch_size,
        (*stop, *marks.texts),
        marks.tokens,
    )
    texts = [answer.text for answer in answers]
    if task.is_code:
        allow_code(task, settings)
        graded = grade_code(task, texts)
    else:
        references = [row.references for row in task.rows]
        graded = grade(texts, references, [task.metric], asking.answer_pattern, metric_settings)
    metrics = {
        **graded.metrics,
        "unfinished": float(np.mean([not answer.finished for answer in answers])),
        "cut_prompts": float(np.mean([len(prompt) > max_length for prompt in whole])),
    }
    columns = {
        "id": [row.id for row in task.rows],
        "question": [row.messages[-1]["content"] for row in task.rows],
        "references": [row.references for row in task.rows],
        "answer": texts,
        "finished": [answer.finished for answer in answers],
        **graded.rows,
    }
    return Measured({f"{task.name}/{name}": value for name, value in metrics.items()}, columns)


def _without_mark(label: str, stop: Sequence[str]) -> str:
    """Return a label without the text that ends it, as answers are cut there."""
    mark = next((string for string in stop if string and label.endswith(string)), "")
    return label.removesuffix(mark)


def task_prompts(
    tokenizer: PreTrainedTokenizerBase, task: Task, template: PromptTemplate
) -> list[list[int]]:
    """Return the encoded prompt of each row of a task."""
    plain = template == "plain"
    return [
        encode_prompt(task.messages(row, plain=plain), tokenizer, template) for row in task.rows
    ]


def allow_code(task: Task, settings: EvaluationConfig) -> None:
    """Raise InputError for a code task, unless the settings allow running what a model writes."""
    if task.is_code and not settings.run_code:
        raise InputError(
            f"evaluation.tasks: {task.name}: grading it means running code that the model writes; "
            "set `evaluation.run_code: true` if that is what you want (docs/evaluation.md says how "
            "such a program is confined), or leave the task out"
        )
