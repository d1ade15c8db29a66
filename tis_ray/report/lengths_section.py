"""The section on lengths: how long the rows of the pool, of the queries and of each subset are.

Gradients of short rows are large and noisy, and a selector may prefer short rows for that alone
(the paper's own confound): a gain that comes with other lengths is not yet a gain of relevance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tis_ray.analysis.recorded import Lengths
from tis_ray.analysis.study_values import POOL
from tis_ray.report.charts import (
    INK,
    METHOD_COLOURS,
    OPEN,
    WIDTH,
    Drawing,
    Spec,
    named,
    printable,
    values,
)
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


def length_figure(record: StudyRecord) -> Drawing:
    """Draw the responses' lengths: 5% to 95% as a line, the middle half as a bar, the median."""
    shown = {record.legend.part(part): found for part, found in record.lengths.items()}
    if not shown:
        return Drawing("lengths", "", "")
    pool = record.lengths.get(POOL) or next(iter(shown.values()))
    names = ("low", "first", "middle", "third", "high")
    rows = [
        {
            "part": name,
            **dict(zip(names, found["response_quantiles"], strict=True)),
            "text": _spread(found["response_quantiles"]),
        }
        for name, found in shown.items()
    ]
    x: Spec = {"type": "quantitative", "title": "tokens of a response", "scale": {"zero": True}}
    encoding: Spec = {
        "y": {
            "field": "part",
            "type": "nominal",
            "title": None,
            "sort": [printable(name) for name in shown],
            "axis": {"ticks": False, "domain": False, "grid": False},
        },
        "tooltip": [named("part", "rows of"), named("text", "median [5%, 95%]")],
    }
    spec: Spec = {
        "data": values(rows),
        "width": WIDTH,
        "height": 22 * len(shown),
        "layer": [
            {
                "mark": {"type": "rule", "color": OPEN},
                "encoding": {**encoding, "x": {"field": "low", **x}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "bar", "size": 7, "color": METHOD_COLOURS[0]},
                "encoding": {**encoding, "x": {"field": "first", **x}, "x2": {"field": "third"}},
            },
            {
                "mark": {"type": "point", "filled": True, "color": INK, "size": 45, "opacity": 1},
                "encoding": {**encoding, "x": {"field": "middle", **x}},
            },
            {
                "mark": {"type": "rule", "strokeDash": [2, 3], "color": OPEN},
                "encoding": {"x": {"datum": pool["response_quantiles"][2], "type": "quantitative"}},
            },
        ],
    }
    caption = (
        "Median, middle half, and 5% to 95% of the rows; dotted, the pool's median. Where a subset's"
        " responses have other lengths, part of its gain may be length: compare the selector length matched."
    )
    return Drawing("lengths", "Length of responses", caption, spec)


def _spread(quantiles: Sequence[float]) -> str:
    low, _, middle, _, high = quantiles
    return f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]"
