"""What the numbers of a study mean. Pure functions over arrays and plain cells."""

from tis_ray.analysis.correlation import RankCorrelation, spearman
from tis_ray.analysis.intervals import (
    Comparison,
    Interval,
    holm,
    mean_interval,
    paired_comparison,
)
from tis_ray.analysis.metrics import Metric, describe, measured
from tis_ray.analysis.paired import (
    PairedDifference,
    bootstrap_interval,
    mean_ranks,
    paired_difference,
    wilcoxon_p,
)
from tis_ray.analysis.statistics import (
    Flag,
    MetricSummary,
    TableRow,
    summarise,
)

__all__ = [
    "Comparison",
    "Flag",
    "Interval",
    "Metric",
    "MetricSummary",
    "PairedDifference",
    "RankCorrelation",
    "TableRow",
    "bootstrap_interval",
    "describe",
    "holm",
    "mean_interval",
    "mean_ranks",
    "measured",
    "paired_comparison",
    "paired_difference",
    "spearman",
    "summarise",
    "wilcoxon_p",
]
