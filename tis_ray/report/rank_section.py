"""Mean ranks on the page: selectors under the representations they share, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tis_ray.analysis import Legend, Metric, TableRow
from tis_ray.analysis.intervals import CONFIDENCE
from tis_ray.analysis.ranks import MeanRank, RankTable, rank_tables
from tis_ray.report.record import StudyRecord
from tis_ray.report.words import metrics_of, p_words, seeds, sentence


def rank_lines(record: StudyRecord, rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """Return the tables as texts: a line a competitor, a column a metric, best on the first metric."""
    groups: dict[tuple[Any, ...], dict[Metric, RankTable]] = {}
    for metric in metrics_of(rows):
        for table in rank_tables(record.cells, metric):
            key = (table.of, table.within, frozenset(found.name for found in table.ranks))
            groups.setdefault(key, {})[metric] = table
    return [_lines(by_metric, record.legend) for by_metric in groups.values()]


def _lines(by_metric: dict[Metric, RankTable], legend: Legend) -> dict[str, Any]:
    first = next(iter(by_metric.values()))
    places = {m: {found.name: found for found in t.ranks} for m, t in by_metric.items()}
    label, other = legend.selector, legend.representation
    if first.of == "representation":
        label, other = other, label
    return {
        "of": sentence(first.of),
        "title": f"{sentence(first.of)}s under {', '.join(map(other, first.within))}",
        "metrics": [sentence(metric.words) for metric in by_metric],
        "rows": [
            (
                label(line.name),
                [_told(places[metric][line.name]) for metric in by_metric],
            )
            for line in first.ranks
        ],
        "verdicts": [_verdict(table) for table in by_metric.values()],
    }


def _told(found: MeanRank) -> dict[str, str]:
    rank = found.rank
    known = rank.low is not None and rank.high is not None
    return {
        "rank": f"{rank.mean:.2f}",
        "interval": f"[{rank.low:.1f}, {rank.high:.1f}]" if known else "",
        "note": rank.note.partition(":")[0],
        "best": f"best in {found.best}",
    }


def _verdict(table: RankTable) -> dict[str, str]:
    """Say whether the ranks differ, and over how many comparisons."""
    over = seeds(table.seeds)
    too_few = table.lowest_p >= 1 - CONFIDENCE
    return {
        "verdict": "they differ" if table.told else "cannot tell",
        "tone": "told" if table.told else "cannot-tell",
        "p": f"too few with {over}" if too_few else p_words(table.p_value),
        "over": f"{table.comparisons} comparisons, {over}",
    }
