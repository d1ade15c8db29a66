"""Evaluation of a model on the target task: the losses of labels, and grades of generated answers."""

from tis_ray.evaluation.generation import Generation, generate
from tis_ray.evaluation.grading import Measured, grade
from tis_ray.evaluation.harness import identify, measure_harness
from tis_ray.evaluation.loss import example_losses
from tis_ray.evaluation.measure import allow_code, measure_answers, measure_rows, task_prompts
from tis_ray.evaluation.sandbox import unprotected
from tis_ray.evaluation.task_files import read_tasks
from tis_ray.evaluation.tasks import Task

__all__ = [
    "Generation",
    "Measured",
    "Task",
    "allow_code",
    "example_losses",
    "generate",
    "grade",
    "identify",
    "measure_answers",
    "measure_harness",
    "measure_rows",
    "read_tasks",
    "task_prompts",
    "unprotected",
]
