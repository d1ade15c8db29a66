"""The distance-quantile experiment on the page: curves, and how steadily they rise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tis_ray.analysis import describe, measured
from tis_ray.analysis.quantiles import QuantileCurve, quantile_curves
from tis_ray.analysis.correlation import FEWEST
from tis_ray.report import svg
from tis_ray.report.record import StudyRecord
from tis_ray.report.words import MINUS, method_name, probability


def quantile_table(record: StudyRecord) -> list[dict[str, str]]:
    """Return Spearman's ρ between quantile and metric as texts, a line a curve."""
    lines = []
    for curve in quantile_curves(record.quantiles, measured(record.quantiles)):
        found = curve.correlation
        lines.append(
            {
                "method": method_name(curve.representation),
                "metric": describe(curve.metric).words,
                "part": "parts of the first quantile" if curve.focus else "quantiles",
                "points": str(found.n),
                "seeds": str(curve.seeds),
                "rho": "constant" if found.rho is None else _signed(found.rho),
                "interval": ""
                if found.low is None or found.high is None
                else f"[{_signed(found.low)}, {_signed(found.high)}]",
                "p": probability(found.p_value)
                or ("too few points" if found.n < FEWEST else ""),
            }
        )
    return lines


def quantile_figure(record: StudyRecord) -> str:
    """Draw query loss by quantile, a line a representation, beside zero-shot."""
    curves = [c for c in quantile_curves(record.quantiles, ("query_loss",)) if not c.focus]
    if not curves:
        return ""
    zero = _zero_shot(record.cells)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for i, curve in enumerate(curves):
            axes.plot(
                [q[-1] for q in curve.quantiles],
                curve.values,
                marker=svg.MARKERS[i % len(svg.MARKERS)],
                color=svg.METHOD_COLOURS[i % len(svg.METHOD_COLOURS)],
                label=method_name(curve.representation),
            )
        if zero is not None:
            axes.axhline(zero, color=svg.OPEN, linestyle="--", label="Zero-shot")
        axes.set_xlabel("quantile of the pool, nearest to the queries first")
        axes.set_ylabel("query loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=3)

    summary = "; ".join(_told(curve) for curve in curves)
    return svg.draw("quantiles", "Query loss by distance quantile", summary, 3.4, paint)


def _told(curve: QuantileCurve) -> str:
    values = ", ".join(f"{value:.3f}" for value in curve.values)
    return f"{method_name(curve.representation)}: {values}"


def _zero_shot(cells: Sequence[Mapping[str, Any]]) -> float | None:
    losses = [c.get("query_loss") for c in cells if c["representation"] == "zero_shot"]
    return losses[0] if losses else None


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", MINUS)
