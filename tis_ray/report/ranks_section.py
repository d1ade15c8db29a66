"""The section on mean ranks: selectors under the representations they share, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tis_ray.analysis import Legend
from tis_ray.analysis.comparison import Pairs
from tis_ray.analysis.intervals import CONFIDENCE
from tis_ray.analysis.ranks import MeanRank, RankTable
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import counted, p_words, sentence
from tis_ray.report.sheets import Sheet


@dataclass(frozen=True)
class Rank:
    """A competitor's mean rank by one metric, as texts."""

    rank: str
    interval: str
    note: str
    best: str


@dataclass(frozen=True)
class Verdict:
    """Whether competitors differ by one metric, and over how many comparisons."""

    verdict: str
    tone: str
    p: str
    over: str


@dataclass(frozen=True)
class RankLines:
    """A table as texts: a line a competitor, a column a metric, best on the first metric."""

    of: str
    title: str
    metrics: list[str]
    rows: list[tuple[str, list[Rank]]]
    verdicts: list[Verdict]
    """Of each metric; none where the blocks share subsets, as the seeds of one study do."""


def rank_lines(
    tables: Mapping[MetricDescription, Sequence[RankTable]], legend: Legend, pairs: Pairs = "seeds"
) -> list[RankLines]:
    """Return the tables of all metrics, those of the same competitors side by side.

    pairs: what the blocks are that the ranks are over.
    """
    groups: dict[
        tuple[str, tuple[str, ...], frozenset[str]], dict[MetricDescription, RankTable]
    ] = {}
    for metric, of_metric in tables.items():
        for table in of_metric:
            key = (table.of, table.within, frozenset(line.name for line in table.ranks))
            groups.setdefault(key, {})[metric] = table
    return [_lines(by_metric, legend, pairs[:-1]) for by_metric in groups.values()]


def _lines(
    by_metric: Mapping[MetricDescription, RankTable], legend: Legend, block: str
) -> RankLines:
    first = next(iter(by_metric.values()))
    places = {m: {line.name: line for line in t.ranks} for m, t in by_metric.items()}
    label, other = legend.selector, legend.representation
    if first.of == "representation":
        label, other = other, label
    return RankLines(
        of=sentence(first.of),
        title=f"{sentence(first.of)}s under {', '.join(map(other, first.within))}",
        metrics=[sentence(metric.words) for metric in by_metric],
        rows=[
            (label(line.name), [_rank(places[metric][line.name], block) for metric in by_metric])
            for line in first.ranks
        ],
        verdicts=[_verdict(t, block) for t in by_metric.values() if t.p_value is not None],
    )


def _rank(line: MeanRank, block: str) -> Rank:
    rank = line.rank
    known = rank.low is not None and rank.high is not None
    return Rank(
        rank=f"{rank.mean:.2f}",
        interval=f"[{rank.low:.1f}, {rank.high:.1f}]" if known else "",
        note=rank.note.partition(":")[0].replace("seed", block),
        best=f"best in {line.best}",
    )


def _verdict(table: RankTable, block: str) -> Verdict:
    """Say whether the ranks differ, and over how many comparisons."""
    over = counted(table.blocks, block)
    too_few = table.lowest_p >= 1 - CONFIDENCE
    return Verdict(
        verdict="they differ" if table.differ else "cannot tell",
        tone="differ" if table.differ else "cannot-tell",
        p=f"too few with {over}" if too_few else p_words(table.p_value),
        over=f"{table.comparisons} comparisons, {over}",
    )


def _note(table: RankLines) -> str:
    if not table.verdicts:
        return "Mean rank, 1 is best: of these subsets, and no test of methods."
    return "Mean rank, 1 is best, with its 95% interval. " + "; ".join(
        f"{metric}: {found.verdict}, {found.p}, {found.over}"
        for metric, found in zip(table.metrics, table.verdicts, strict=True)
    )


def rank_sheets(tables: Sequence[RankLines]) -> list[Sheet]:
    """Return the tables for files, a line a competitor."""
    return [
        Sheet(
            f"ranks_{number}",
            table.title,
            _note(table),
            (table.of, *(f"{m}{w}" for m in table.metrics for w in ("", ", interval", ", best"))),
            [
                (name, *(text for c in cells for text in (c.rank, c.interval, c.best)))
                for name, cells in table.rows
            ],
        )
        for number, table in enumerate(tables, 1)
    ]
