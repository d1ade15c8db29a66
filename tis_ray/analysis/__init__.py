"""What the numbers of a study mean. Pure functions over arrays and cells."""

from tis_ray.analysis.comparison import Comparison, compare_cells, wilcoxon_p
from tis_ray.analysis.correlation import RankCorrelation, spearman
from tis_ray.analysis.intervals import Interval, bootstrap_interval, holm, mean_interval
from tis_ray.analysis.legend import Legend
from tis_ray.analysis.ranks import mean_ranks
from tis_ray.analysis.study_table import Flag, MetricSummary, TableRow, summarise
from tis_ray.analysis.study_values import Cell, Method, StageCost

__all__ = [
    "Cell",
    "Comparison",
    "Flag",
    "Interval",
    "Legend",
    "Method",
    "MetricSummary",
    "RankCorrelation",
    "StageCost",
    "TableRow",
    "bootstrap_interval",
    "compare_cells",
    "holm",
    "mean_interval",
    "mean_ranks",
    "spearman",
    "summarise",
    "wilcoxon_p",
]
