"""What a generated answer is worth: one file a metric, each with its spec."""

from tis_ray.metrics.spec import METRICS, Metric, Score, check_references

__all__ = ["METRICS", "Metric", "Score", "check_references"]
