"""What the numbers of a study mean. Pure functions over arrays and cells."""

from tis_ray.analysis.cells import Cell, Method, StageCost
from tis_ray.analysis.correlation import RankCorrelation, spearman
from tis_ray.analysis.intervals import Interval, bootstrap_interval, holm, mean_interval
from tis_ray.analysis.legend import Legend
from tis_ray.analysis.metrics import Metric, describe, measured
from tis_ray.analysis.paired import Comparison, compare_complete, paired_comparison, wilcoxon_p
from tis_ray.analysis.ranks import mean_ranks
from tis_ray.analysis.statistics import Flag, MetricSummary, TableRow, summarise

__all__ = [
    "Cell",
    "Comparison",
    "Flag",
    "Interval",
    "Legend",
    "Method",
    "Metric",
    "MetricSummary",
    "RankCorrelation",
    "StageCost",
    "TableRow",
    "bootstrap_interval",
    "compare_complete",
    "describe",
    "holm",
    "mean_interval",
    "mean_ranks",
    "measured",
    "paired_comparison",
    "spearman",
    "summarise",
    "wilcoxon_p",
]
