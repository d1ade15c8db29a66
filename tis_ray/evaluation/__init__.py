"""What a model is worth on the target task: loss of the labels, and what its answers are worth."""

from tis_ray.evaluation.answers import METRICS, Score, check_references
from tis_ray.evaluation.generation import Generation, generate
from tis_ray.evaluation.loss import example_losses
from tis_ray.evaluation.measure import Measured, grade, measure_rows

__all__ = [
    "METRICS",
    "Generation",
    "Measured",
    "Score",
    "check_references",
    "example_losses",
    "generate",
    "grade",
    "measure_rows",
]
