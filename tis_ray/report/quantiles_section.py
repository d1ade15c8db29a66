"""The section on distance quantiles: how steadily each metric follows distance, and curves."""

from __future__ import annotations

from dataclasses import dataclass

from tis_ray.analysis.correlation import FEWEST
from tis_ray.analysis.quantiles import quantile_curves
from tis_ray.analysis.result_arrays import Results
from tis_ray.analysis.study_runs import best_of_zero_shots
from tis_ray.metrics.description import measured
from tis_ray.paper.budget_tables import Table
from tis_ray.report.curves import Curve, Labels, Panel, draw_curves, method_look
from tis_ray.report.formatting import counted, p_words, plain_number, rho_span
from tis_ray.report.record import StudyRecord


@dataclass(frozen=True)
class QuantileLine:
    """Spearman's ρ of one representation and metric as texts: of one curve, or of many cells'."""

    name: str
    metric: str
    over: str
    rho: str
    interval: str
    significant: str


def study_lines(record: StudyRecord) -> list[QuantileLine]:
    """Return a line for each curve of one study."""
    metrics = [record.legend.metric(n) for n in measured(c.metrics for c in record.quantiles)]
    lines = []
    for curve in quantile_curves(record.quantiles, metrics):
        rank = curve.correlation
        part = "parts of the first quantile" if curve.focus else "quantiles"
        lines.append(
            QuantileLine(
                name=record.legend.representation(curve.method.representation),
                metric=curve.metric.words,
                over=f"{rank.n} {part}, {counted(curve.seeds, 'seed')}",
                rho="constant" if rank.rho is None else plain_number(rank.rho, 2),
                interval=rho_span(rank.low, rank.high),
                significant="too few points"
                if rank.n < FEWEST
                else p_words(rank.p_value)
                if rank.p_value is not None
                else "–",
            )
        )
    return lines


def cell_lines(results: Results, summary: Table) -> list[QuantileLine]:
    """Return a line for each metric and representation over the cells of several studies.

    summary: metric → representation → `all` → the counts of `paper.quantile_tables`.
    """
    return [
        QuantileLine(
            name=name,
            metric=metric.words,
            over=counted(found["n"], "cell"),
            rho=f"mean {plain_number(found['mean_spearman'], 2)}",
            interval=rho_span(found["mean_spearman_low"], found["mean_spearman_high"]),
            significant=_significant(found),
        )
        for metric in results.shown
        for name, scopes in summary.get(metric.name, {}).items()
        if name in results.representations and "mean_spearman" in (found := scopes["all"])
    ]


def _significant(found: Table) -> str:
    """Return in how many cells ρ is significant, in brackets after Holm's correction."""
    nearest = f"the nearest quantile is best in {found['n_q1_best']}"
    if found["n_exact_expected"] is None:
        return f"too few points for a test; {nearest}"
    return (
        f"{found['n_exact_expected']} as expected ({found['n_holm_expected']}),"
        f" {found['n_exact_wrong']} reversed ({found['n_holm_wrong']}); {nearest}"
    )


def quantile_figure(record: StudyRecord) -> str:
    """Draw query loss by quantile, a line a representation, beside zero-shot."""
    loss = record.legend.metric("query_loss")
    curves = [
        Curve(
            record.legend.representation(curve.method.representation),
            method_look(i),
            [quantile[-1] for quantile in curve.quantiles],
            curve.values,
        )
        for i, curve in enumerate(
            curve for curve in quantile_curves(record.quantiles, [loss]) if not curve.focus
        )
    ]
    if not curves:
        return ""
    zero = best_of_zero_shots(record.cells, loss)
    return draw_curves(
        "quantiles",
        "Query loss by distance quantile",
        "; ".join(f"{c.label}: {', '.join(f'{y:.3f}' for y in c.y)}" for c in curves),
        [Panel("", curves, zero[1] if zero else None)],
        Labels(
            "quantile of the pool, nearest to the queries first",
            "query loss",
            level=record.legend.method(zero[0]) if zero else "",
        ),
    )
