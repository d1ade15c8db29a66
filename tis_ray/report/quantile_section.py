"""The distance-quantile experiment on the page: curves, and how steadily they rise."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tis_ray.analysis import Metric, measured
from tis_ray.analysis.correlation import FEWEST
from tis_ray.analysis.quantiles import quantile_curves
from tis_ray.analysis.statistics import best_of_zero_shots
from tis_ray.report import svg
from tis_ray.report.record import StudyRecord
from tis_ray.report.words import plain_number, probability


def quantile_table(record: StudyRecord) -> list[dict[str, str]]:
    """Return Spearman's ρ between quantile and metric as texts, a line a curve."""
    lines = []
    for curve in quantile_curves(record.quantiles, _metrics(record)):
        found = curve.correlation
        lines.append(
            {
                "method": record.legend.representation(curve.method.representation),
                "metric": curve.metric.words,
                "part": "parts of the first quantile" if curve.focus else "quantiles",
                "points": str(found.n),
                "seeds": str(curve.seeds),
                "rho": "constant" if found.rho is None else plain_number(found.rho, 2),
                "interval": ""
                if found.low is None or found.high is None
                else f"[{plain_number(found.low, 2)}, {plain_number(found.high, 2)}]",
                "p": probability(found.p_value) or ("too few points" if found.n < FEWEST else ""),
            }
        )
    return lines


def quantile_figure(record: StudyRecord) -> str:
    """Draw query loss by quantile, a line a representation, beside zero-shot."""
    loss = record.legend.metric("query_loss")
    curves = [c for c in quantile_curves(record.quantiles, [loss]) if not c.focus]
    if not curves:
        return ""
    labels = [record.legend.representation(curve.method.representation) for curve in curves]
    zero = best_of_zero_shots(record.cells, loss)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for i, curve in enumerate(curves):
            axes.plot(
                [q[-1] for q in curve.quantiles],
                curve.values,
                marker=svg.MARKERS[i % len(svg.MARKERS)],
                color=svg.METHOD_COLOURS[i % len(svg.METHOD_COLOURS)],
                label=labels[i],
            )
        if zero is not None:
            method, height = zero
            label = record.legend.method(method)
            axes.axhline(height, color=svg.OPEN, linestyle="--", label=label)
        axes.set_xlabel("quantile of the pool, nearest to the queries first")
        axes.set_ylabel("query loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=3)

    summary = "; ".join(
        f"{label}: {', '.join(f'{value:.3f}' for value in curve.values)}"
        for label, curve in zip(labels, curves, strict=True)
    )
    return svg.draw("quantiles", "Query loss by distance quantile", summary, 3.4, paint)


def _metrics(record: StudyRecord) -> list[Metric]:
    return [record.legend.metric(n) for n in measured(cell.metrics for cell in record.quantiles)]
