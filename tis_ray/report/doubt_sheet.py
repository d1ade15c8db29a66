"""The table of where the doubt comes from: half-widths of each interval against random, by their parts."""

from __future__ import annotations

from collections.abc import Sequence

from tis_ray.analysis import TableRow
from tis_ray.analysis.doubts import doubt
from tis_ray.report.formatting import decimals, metrics_of, number
from tis_ray.report.sheets import Sheet, sheet

_HEADS = {
    "method": "Method",
    "budget": "Budget",
    "metric": "Metric",
    "about": "About",
    "whole": "±",
    "luck": "by luck",
    "rows": "by test rows",
    "more_runs": "with twice the runs",
    "more_rows": "with 4 times the test rows",
}


def doubt_sheet(rows: Sequence[TableRow]) -> Sheet:
    """Return a line for each comparison with random that has an interval."""
    lines = []
    for metric in metrics_of(rows):
        places = decimals(rows, metric)
        for row in rows:
            summary = row.metrics.get(metric.name)
            asked = (
                (("rows", summary.vs_random), ("method", summary.method_vs_random))
                if summary
                else ()
            )
            for about, versus in asked:
                found = doubt(versus) if versus is not None else None
                if found is None:
                    continue
                halves = {
                    name: "–"
                    if value is None
                    else number(metric, value, places, signed=True).lstrip("+")
                    for name, value in vars(found).items()
                }
                named = {"method": row.label, "budget": row.budget, "metric": metric.words}
                lines.append({**named, "about": about, **halves})
    return sheet(
        "doubt",
        "Where the doubt comes from",
        "Half of each 95% interval against random, what of it is the luck of subsets and draws and what the"
        " choice of test rows, and what it would be with twice as many runs (seeds, or draws) and with four"
        " times as many test rows, if they vary as these do.",
        _HEADS,
        lines,
        ("budget", "whole", "luck", "rows", "more_runs", "more_rows"),
    )
