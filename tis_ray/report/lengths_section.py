"""The section on lengths: how long the rows of the pool, of the queries and of each subset are.

Gradients of short rows are large and noisy, and a selector may prefer short rows for that alone
(the paper's own confound): a gain that comes with other lengths is not yet a gain of relevance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tis_ray.analysis.recorded import Lengths
from tis_ray.analysis.study_values import POOL
from tis_ray.report import svg
from tis_ray.report.record import StudyRecord

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the rows, this share is no longer than the quantile of the same place."""


def length_facts(tokens: np.ndarray, response: np.ndarray) -> Lengths:
    """Return the quantiles and sums of some rows' tokens, those of responses apart.

    tokens, response: (n,) of each row, n >= 1.
    """
    return {
        "rows": len(tokens),
        "tokens": int(tokens.sum()),
        "response_tokens": int(response.sum()),
        "quantiles": [float(q) for q in np.quantile(tokens, SHARES)],
        "response_quantiles": [float(q) for q in np.quantile(response, SHARES)],
    }


def length_table(record: StudyRecord) -> list[dict[str, str]]:
    """Return a line for the pool, the queries and each subset."""
    return [
        {
            "name": record.legend.part(part),
            "rows": f"{found['rows']:,}",
            "tokens": f"{found['tokens']:,}",
            "response": f"{found['response_tokens']:,}",
            "each": _spread(found["quantiles"]),
            "response_each": _spread(found["response_quantiles"]),
        }
        for part, found in record.lengths.items()
    ]


def length_figure(record: StudyRecord) -> str:
    """Draw the responses' lengths: 5% to 95% as a line, the middle half as a bar, the median."""
    shown = {record.legend.part(part): found for part, found in record.lengths.items()}
    if not shown:
        return ""
    pool = record.lengths.get(POOL) or next(iter(shown.values()))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, found in enumerate(shown.values()):
            low, first, middle, third, high = found["response_quantiles"]
            axes.plot([low, high], [y, y], color=svg.OPEN, linewidth=1.2)
            axes.plot([first, third], [y, y], color=svg.METHOD_COLOURS[0], linewidth=6)
            axes.plot([middle], [y], marker="o", color=svg.INK, markersize=5)
        axes.axvline(pool["response_quantiles"][2], color=svg.OPEN, linestyle=":")
        axes.set_yticks(range(len(shown)), [svg.short(name, 34) for name in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("tokens of a response")
        axes.tick_params(axis="y", length=0)

    summary = "; ".join(
        f"{name}: {_spread(found['response_quantiles'])}" for name, found in shown.items()
    )
    height = 0.75 + 0.27 * len(shown)
    return svg.draw("lengths", "Length of responses", summary, height, paint)


def _spread(quantiles: Sequence[float]) -> str:
    low, _, middle, _, high = quantiles
    return f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]"
