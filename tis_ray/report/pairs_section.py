"""The section on methods against each other: each pair at each budget, by each metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tis_ray.analysis.study_pairs import MethodPair
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import probability, sentence
from tis_ray.report.results_section import Difference, difference
from tis_ray.report.sheets import Sheet, file_part, sheet

_ABOUT = {
    "method": "Compared draw by draw: this is about the methods.",
    "subset": "Each subset may be as lucky as a random one: its interval counts that in.",
}
MOST = 30
"""Pairs that a page shows before the reader asks for more."""


@dataclass(frozen=True)
class PairLine:
    """Two methods at a budget, and by how much the first is ahead or behind."""

    left: str
    right: str
    budget: str
    found: Difference
    wins: str
    p_holm: str


@dataclass(frozen=True)
class PairTable:
    """All pairs by one metric."""

    metric: str
    name: str
    direction: str
    about: str
    """What is compared: subsets or methods."""
    rows: list[PairLine]


def pair_tables(
    pairs: Sequence[MethodPair], metrics: Sequence[MetricDescription], places: dict[str, int]
) -> list[PairTable]:
    """Return a table a metric. places: metric → its decimals elsewhere on the page."""
    tables = []
    for metric in metrics:
        own = [pair for pair in pairs if pair.metric == metric]
        lines = [_line(pair, places[metric.name]) for pair in own]
        if lines:
            way = "lower" if metric.lower_is_better else "higher"
            about = _ABOUT[own[0].comparison.question]
            tables.append(PairTable(metric.name, sentence(metric.words), way, about, lines))
    return tables


def _line(pair: MethodPair, places: int) -> PairLine:
    versus = pair.comparison
    found = difference(versus, pair.metric, places)
    assert found is not None
    return PairLine(
        pair.left_label,
        pair.right_label,
        f"{pair.budget:,}",
        found,
        f"{versus.better} of {versus.n} {versus.pairs} better, {versus.worse} worse",
        probability(versus.p_holm),
    )


def pair_sheet(table: PairTable) -> Sheet:
    """Return a table for files."""
    return sheet(
        f"pairs_{file_part(table.metric)}",
        f"Methods against each other: {table.name}",
        f"First minus second, {table.direction} is better. {table.about}",
        {"left": "First", "right": "Second", "budget": "Budget", "difference": "Difference"}
        | {"interval": "95% interval", "p": "p", "p_holm": "Corrected p", "verdict": "Verdict"}
        | {"wins": "Runs"},
        [{**vars(row), **vars(row.found)} for row in table.rows],
        ("budget", "difference", "interval", "p", "p_holm"),
    )
