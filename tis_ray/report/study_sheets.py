"""The tables of one study, as the page shows them and as files hold them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

from tis_ray.analysis import Cell, Legend, Method, StageCost, TableRow
from tis_ray.analysis.margins import NEAR
from tis_ray.analysis.recorded import RecordedCertificate
from tis_ray.analysis.study_values import POOL
from tis_ray.report.answers_section import changes
from tis_ray.report.budgets_section import effective_budgets
from tis_ray.report.charts import figure_name
from tis_ray.report.distances_section import distance_sheets
from tis_ray.report.formatting import decimals, duration, metrics_of, plain_number
from tis_ray.report.gains_section import gain_sheets
from tis_ray.report.lengths_section import length_table
from tis_ray.report.orderings_section import agreement_sheet, score_lines
from tis_ray.report.pairs_section import pair_sheet, pair_tables
from tis_ray.report.quantiles_section import quantile_sheet, study_lines
from tis_ray.report.ranks_section import RankLines, rank_sheets
from tis_ray.report.record import StudyRecord
from tis_ray.report.results_section import results_sheet
from tis_ray.report.search_section import search_table
from tis_ray.report.sheets import Sheet, Value, sheet
from tis_ray.report.study_pairs import Pair


def all_sheets(
    record: StudyRecord,
    rows: Sequence[TableRow],
    pairs: Sequence[Pair],
    ranks: Sequence[RankLines],
) -> list[Sheet]:
    """Return every table of a study that has rows, for files."""
    metrics = metrics_of(rows)
    places = {metric.name: decimals(rows, metric) for metric in metrics}
    found = [results_sheet(rows, m, figure_name("results", m.name)) for m in metrics]
    found += [pair_sheet(table) for table in pair_tables(pairs, metrics, places)]
    found += [*gain_sheets(record, rows), *rank_sheets(ranks), *distance_sheets(record, rows)]
    found += [*plain_sheets(record).values(), _cells(record)]
    return [table for table in found if table.rows]


def plain_sheets(record: StudyRecord) -> dict[str, Sheet]:
    """Return by name the tables that page and files share as they are; those without rows are left out."""
    return {table.name: table for table in _plain(record) if table.rows}


def _plain(record: StudyRecord) -> Iterator[Sheet]:
    yield sheet(
        "changes",
        "Answers fixed and broken",
        "Rows that a method's models answer rightly more often, or less often, than those of the other.",
        {"method": "Method", "other": "Against", "fixed": "Fixed", "broken": "Broken"}
        | {"same": "Alike", "rows": "Rows", "name": "Questions"},
        map(vars, changes(record)),
    )
    yield _everything(record)
    yield _costs(record.stages)
    yield _artifacts(record.stages)
    yield _shares(record)
    yield sheet(
        "lengths",
        "Tokens of every subset",
        "Sums, and the median of a row [5%, 95%]; as the model reads them, cut at data.max_length.",
        {"name": "Rows of", "rows": "Rows", "tokens": "Tokens", "each": "A row"}
        | {"response": "Of responses", "response_each": "A response"},
        length_table(record),
        ("rows", "tokens", "each", "response", "response_each"),
    )
    yield sheet(
        "budgets",
        "What each budget came to",
        f"Rows and {record.budget_unit} of each subset, and the better-ranked rows that were passed over.",
        {"method": "Method", "budget": "Budget", "rows": "Rows"}
        | {
            "amount": record.budget_unit.capitalize(),
            "capped": "Over a cap",
            "near": "Near-duplicates",
        },
        effective_budgets(record),
        ("budget", "rows", "amount", "capped", "near"),
    )
    if agreement := agreement_sheet(record):
        yield agreement
    yield sheet(
        "scores",
        "Ties and scores",
        "What each ordering ranked by. Tied rows share it with another selected row, or had as good a row of"
        f" the same query left out. Near-duplicates have a cosine of {NEAR:g} or more.",
        {"name": "Ordering", "rows": "Rows", "tied": "Tied", "outside": "With a row left out"}
        | {"lowest": "Lowest", "median": "Median", "highest": "Highest"},
        score_lines(record),
        ("rows", "tied", "outside", "lowest", "median", "highest"),
    )
    yield quantile_sheet(
        study_lines(record),
        "of the mean over seeds, by Bonett and Wright; p by permutations, not corrected for many tests",
    )
    yield sheet(
        "search",
        "Trials of the search",
        "Each trial is one combination; the chosen one first.",
        {"settings": "Settings", "epochs": "Epochs", "loss": "Query loss", "outcome": "Outcome"},
        search_table(record),
        ("epochs", "loss"),
    )
    yield sheet(
        "certificates",
        "Exactness of the scores",
        "Errors of the projection and of the storage, estimated from the two halves of each sketch; recall"
        " with its 95% interval.",
        {"name": "Representation", "scored": "Scored from", "noise": "Error", "lost": "Cascade"},
        [_certificate(found, record.legend) for found in record.certificates],
    )
    yield sheet(
        "overlaps",
        "Overlapping rows",
        "Pool rows that repeat query or test rows, the strongest first.",
        {"pool_id": "Pool row", "target": "Repeats", "how": "How", "excerpt": "Words"},
        [
            {
                "pool_id": row["pool_id"],
                "target": f"{row['side']} row {row['target_id']}",
                "how": f"{row['kind']}, {row['part']}, {row['value']:.2f}",
                "excerpt": row["excerpt"],
            }
            for row in (record.overlaps or {}).get("rows", [])
        ],
    )
    counts = Counter(
        (row.get("reason") or "?", row.get("side") or "?") for row in record.quarantined
    )
    yield Sheet(
        "quarantine",
        "Rows left out",
        "By reason.",
        ("Reason", "Side", "Rows"),
        [(reason, side, count) for (reason, side), count in counts.most_common()],
    )
    yield quarantined_rows(record)


def _names(record: StudyRecord) -> list[str]:
    """Return all that any cell has measured, whatever it is, in the order of its first appearance."""
    return list(dict.fromkeys(name for cell in record.cells for name in cell.metrics))


def _everything(record: StudyRecord) -> Sheet:
    """Return the mean over seeds of all that was measured, metrics and what stands beside them."""
    names, groups = _names(record), defaultdict[tuple[Method, int], list[Cell]](list)
    for cell in record.cells:
        groups[cell.method, cell.budget].append(cell)
    return Sheet(
        "values",
        "Everything measured",
        "Means over seeds, as they are in the record: shares from 0 to 1. A dash is a value that no seed has.",
        ("Method", "Budget", "Seeds", *names),
        [
            (
                record.legend.method(method),
                budget or "",
                len(cells),
                *(_mean([cell.metrics.get(name) for cell in cells]) for name in names),
            )
            for (method, budget), cells in groups.items()
        ],
        frozenset({"Budget", *names}),
    )


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return plain_number(fmean(known), 4).removeprefix("+") if known else "–"


def _cells(record: StudyRecord) -> Sheet:
    """Return every training run with its values, and what it took."""
    names = _names(record)
    facts = ("train_rows", "train_tokens", "optimizer_steps", "seconds_train", "peak_mb")
    return Sheet(
        "cells",
        "Every cell",
        "A training run a line, all digits that matter.",
        ("Method", "Budget", "Seed", *names, *facts),
        [
            (
                record.legend.method(cell.method),
                str(cell.budget or ""),
                "" if cell.seed is None else str(cell.seed),
                *(
                    "" if value is None else f"{value:.7g}"
                    for value in (
                        *(cell.metrics.get(name) for name in names),
                        *(getattr(cell, fact) for fact in facts),
                    )
                ),
            )
            for cell in record.cells
        ],
        frozenset({"Budget", "Seed", *names, *facts}),
    )


def quarantined_rows(record: StudyRecord, most: int | None = None) -> Sheet:
    """Return each quarantined row, or the first."""
    return Sheet(
        "quarantined-rows",
        "Quarantined rows",
        "Where each row stands in its file.",
        ("Row", "Side", "Reason", "File", "Line"),
        [
            (
                row.get("id") or "–",
                row.get("side") or "",
                row.get("reason") or "",
                row.get("file") or "",
                str(row.get("line") or ""),
            )
            for row in record.quarantined[:most]
        ],
    )


def _shares(record: StudyRecord) -> Sheet:
    """Return the composition: a source a line, counts and percent of each column."""
    columns = {part: c for part, c in record.composition.items() if sum(c.values())}
    sources = Counter[str]()
    for counts in columns.values():
        sources.update(counts)
    pool = columns.get(POOL, {})
    order = sorted(sources, key=lambda source: (-pool.get(source, 0), source))
    names = [record.legend.part(part) for part in columns]
    return Sheet(
        "shares",
        "Counts of every source",
        "Rows from each source, and their share of the column.",
        ("Source", *names),
        [
            (
                source or "no source",
                *(
                    f"{c.get(source, 0):,} ({100 * c.get(source, 0) / sum(c.values()):.1f}%)"
                    for c in columns.values()
                ),
            )
            for source in order
        ],
        frozenset(names),
    )


def _certificate(found: RecordedCertificate, legend: Legend) -> dict[str, str]:
    """Return in words how far scores are from exact, and what a cascade kept and lost."""
    name = legend.representation(found["representation"])
    noise = "no projection: exact"
    if found.get("projection"):
        overlaps = found.get("predicted_overlap") or {}
        agree = ", ".join(f"top {float(p):.0%}: {share:.0%}" for p, share in overlaps.items())
        noise = (
            f"estimated error {found['noise_within_query']:.4f} (scores of a query spread by "
            f"{found['spread']:.4f}); predicted agreement with exact scores, {agree}"
        )
    lost = ""
    if cascade := found.get("cascade"):
        by = legend.representation(cascade["by"])
        lost = f"{by} kept {cascade['kept']:,} of {cascade['pool']:,} rows"
        for entry in cascade.get("recall", [])[:1]:
            lost += (
                f"; of the {entry['rows']} rows that full {name} would take from a sample of "
                f"{cascade['sample']:,}, {entry['kept']} were kept: recall "
                f"{entry['kept'] / entry['rows']:.0%} [{entry['low']:.0%}, {entry['high']:.0%}]"
            )
    return {"name": name, "scored": found.get("kind", ""), "noise": noise, "lost": lost}


def _costs(stages: Iterable[StageCost]) -> Sheet:
    """Return one line a stage: its artifacts added up."""
    groups: dict[str, list[StageCost]] = defaultdict(list)
    for stage in stages:
        groups[stage.stage].append(stage)
    lines: list[dict[str, Value]] = []
    for name, parts in groups.items():
        seconds = spent(parts)
        peak = max(p.peak_mb for p in parts)
        lines.append(
            {
                "stage": name,
                "artifacts": len(parts),
                "reused": sum(p.reused for p in parts),
                "computed": duration(seconds["computed"]),
                "saved": duration(seconds["saved"]),
                "rows": sum(p.rows for p in parts),
                "quarantined": sum(p.quarantined for p in parts),
                "device": ", ".join(sorted({p.device for p in parts} - {""})),
                "peak": f"{peak:,.0f} MB" if peak else "–",
            }
        )
    heads = {
        "stage": "Stage",
        "artifacts": "Artifacts",
        "reused": "Reused",
        "computed": "Computed",
        "saved": "Saved by reuse",
        "rows": "Rows",
        "quarantined": "Quarantined",
        "device": "Device",
        "peak": "Peak memory",
    }
    right = ("computed", "saved", "peak")
    return sheet("costs", "Cost by stage", "Wall time, rows and peak memory.", heads, lines, right)


def _artifacts(stages: Iterable[StageCost]) -> Sheet:
    return Sheet(
        "artifacts",
        "Every artifact",
        "In the order they were made or found.",
        ("Artifact", "Stage", "Status", "Seconds", "Rows", "Quarantined", "Device"),
        [
            (
                stage.artifact,
                stage.stage,
                "reused" if stage.reused else "computed",
                f"{stage.seconds:.1f}",
                stage.rows,
                stage.quarantined,
                stage.device,
            )
            for stage in stages
        ],
        frozenset({"Seconds"}),
    )


def spent(stages: Iterable[StageCost]) -> Mapping[str, float]:
    """Return seconds spent now, and seconds saved by reuse."""
    seconds = {"computed": 0.0, "saved": 0.0}
    for stage in stages:
        seconds["saved" if stage.reused else "computed"] += stage.seconds
    return seconds
