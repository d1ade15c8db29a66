"""What is measured on each model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tis_ray.metrics import METRICS
from tis_ray.section import Section, Stop, distinct

MetricName = Annotated[str, AfterValidator(METRICS.checked)]


def _as_task(value: object) -> object:
    return {"task": value} if isinstance(value, str) else value


class HarnessTask(Section):
    """A task of lm-eval."""

    task: str
    """Its name, a group's, or the path of a task file in lm-eval's format."""
    num_fewshot: int | None = Field(None, ge=0)
    """Solved examples before each question; null leaves it to the task."""
    limit: int | None = Field(None, ge=1)
    """Use the first so many rows of each task; null uses all."""


class EvaluationConfig(Section):
    """What is measured on each model, besides the losses of query and test rows."""

    metrics: Annotated[list[MetricName], AfterValidator(distinct)] = ["exact_match"]
    """How answers generated on the test rows are compared with their labels; none: nothing is generated.
    `exact_match`; `f1` of words, as SQuAD does it; `numeric_match` of the number after `####`, or of
    the last one; `choice_match` of the letter chosen."""
    max_new_tokens: int = Field(64, ge=1)
    """Longest generation."""
    batch_size: int = Field(32, ge=1)
    """Rows in one batch."""
    plain_stop: tuple[Stop, ...] = ("\n\n",)
    """Strings that end an answer to a prompt without template, which zero-shot is measured on too:
    there a model has no other way to say that it is done."""
    tasks: Annotated[list[str], AfterValidator(distinct)] = []
    """Task files (.yaml, or .jsonl of rows), each measured on every model: docs/evaluation.md."""
    run_code: bool = False
    """Run the programs that models write for code tasks. They are kept from writing files, starting
    processes and using the network where the machine can do so; docs/evaluation.md says what is left."""
    lm_eval: list[Annotated[HarnessTask, BeforeValidator(_as_task)]] = []
    """Benchmark tasks of lm-eval (the `eval` extra): names, or sections with `task` and more."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the tasks of lm-eval. `vllm` (its package, a GPU) is faster and differs in the last digits."""
