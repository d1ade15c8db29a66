"""Metrics of generated answers: one file for each metric, with its spec."""

from tis_ray.metrics.spec import METRICS, Metric, Score, check_references

__all__ = ["METRICS", "Metric", "Score", "check_references"]
