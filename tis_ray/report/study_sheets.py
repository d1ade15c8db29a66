"""The tables of one study, as the page shows them and as files hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tis_ray.analysis import Legend, TableRow
from tis_ray.analysis.margins import NEAR
from tis_ray.analysis.recorded import RecordedCertificate
from tis_ray.analysis.study_pairs import MethodPair
from tis_ray.analysis.study_values import POOL
from tis_ray.report.answers_section import changes
from tis_ray.report.budgets_section import effective_budgets
from tis_ray.report.charts import figure_name
from tis_ray.report.cost_sheets import artifacts_sheet, costs_sheet
from tis_ray.report.distances_section import distance_sheets
from tis_ray.report.doubt_sheet import doubt_sheet
from tis_ray.report.formatting import decimals, metrics_of
from tis_ray.report.gains_section import gain_sheets
from tis_ray.report.lengths_section import length_table
from tis_ray.report.orderings_section import agreement_sheet, score_lines
from tis_ray.report.pairs_section import pair_sheet, pair_tables
from tis_ray.report.quantiles_section import quantile_sheet, study_lines
from tis_ray.report.ranks_section import RankLines, rank_sheets
from tis_ray.report.record import StudyRecord
from tis_ray.report.results_sheet import results_sheet
from tis_ray.report.search_section import search_table
from tis_ray.report.sheets import Sheet, sheet
from tis_ray.report.value_sheets import cells_sheet, everything_sheet


def all_sheets(
    record: StudyRecord,
    rows: Sequence[TableRow],
    pairs: Sequence[MethodPair],
    ranks: Sequence[RankLines],
) -> list[Sheet]:
    """Return every table of a study that has rows, for files."""
    metrics = metrics_of(rows)
    places = {metric.name: decimals(rows, metric) for metric in metrics}
    found = [results_sheet(rows, m, figure_name("results", m.name)) for m in metrics]
    found += [pair_sheet(table) for table in pair_tables(pairs, metrics, places)]
    found += [*gain_sheets(record, rows), *rank_sheets(ranks), *distance_sheets(record, rows)]
    found += [*plain_sheets(record, rows).values(), cells_sheet(record)]
    return [table for table in found if table.rows]


def plain_sheets(record: StudyRecord, rows: Sequence[TableRow]) -> dict[str, Sheet]:
    """Return by name the tables that page and files share as they are; those without rows are left out."""
    return {table.name: table for table in _plain(record, rows) if table.rows}


def _plain(record: StudyRecord, rows: Sequence[TableRow]) -> Iterator[Sheet]:
    yield sheet(
        "changes",
        "Answers fixed and broken",
        "Rows that a method's models answer rightly more often, or less often, than those of the other.",
        {"method": "Method", "other": "Against", "fixed": "Fixed", "broken": "Broken"}
        | {"same": "Alike", "rows": "Rows", "name": "Questions"},
        map(vars, changes(record)),
    )
    yield doubt_sheet(rows)
    yield everything_sheet(record)
    yield costs_sheet(record.stages)
    yield artifacts_sheet(record.stages)
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
