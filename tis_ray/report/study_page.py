"""The report of one study: what stands in which section, as texts for its template."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from tis_ray.analysis import Legend, Method, StageCost, TableRow
from tis_ray.analysis.ranks import rank_tables, ranked_runs
from tis_ray.analysis.recorded import RecordedCertificate
from tis_ray.analysis.study_values import POOL
from tis_ray.report import svg
from tis_ray.report.budgets_section import effective_budgets, overlap_lines
from tis_ray.report.distances_section import distance_tables
from tis_ray.report.figures import difference_name, drawings
from tis_ray.report.formatting import duration, metrics_of
from tis_ray.report.gains_section import gain_tables
from tis_ray.report.headline import headline
from tis_ray.report.html import Page, Section, write_page
from tis_ray.report.lengths_section import length_table
from tis_ray.report.orderings_section import agreement_table, clarity, score_lines
from tis_ray.report.quantiles_section import study_lines
from tis_ray.report.ranks_section import rank_lines
from tis_ray.report.record import StudyRecord
from tis_ray.report.results_section import results_table, warnings_of
from tis_ray.report.search_section import search_table

MOST_EXAMPLES = 50
"""Rows shown of each ordering."""
TEXT_BUDGET = 600_000
"""Characters of example text on the whole page; each text is cut to an equal share."""
OPEN_EXAMPLES = 10
"""Rows of each ordering that are in view before the reader asks for more."""
MOST_QUARANTINED = 200
"""Quarantined rows listed one by one; the counts cover all."""

SCRIPT = """
const box = document.getElementById("filter");
box.parentElement.hidden = false;
box.addEventListener("input", () => {
  const wanted = box.value.toLowerCase();
  for (const part of document.querySelectorAll("details.method, details.rest"))
    part.open = wanted !== "" || part.dataset.open === "yes";
  for (const item of document.querySelectorAll(".examples > li"))
    item.hidden = !item.textContent.toLowerCase().includes(wanted);
});
"""


def build_report(record: StudyRecord, out_dir: str | Path) -> Path:
    """Write `out_dir/index.html` atomically and return its path. Equal records, equal bytes."""
    record = StudyRecord.from_json(record.to_json())  # plain types, as when redrawn from disk
    rows = record.table()
    figures = drawings(record, rows)
    content = {
        "record": record,
        "figures": figures,
        "tables": [
            results_table(
                rows,
                metric,
                [svg.figure_name("budget", metric.name), difference_name(metric.name)],
            )
            for metric in metrics_of(rows)
        ],
        "gains": gain_tables(record, rows),
        "ranks": rank_lines(
            {
                metric: rank_tables(
                    ranked_runs(record.cells, metric), lower_is_better=metric.lower_is_better
                )
                for metric in metrics_of(rows)
            },
            record.legend,
        ),
        "agreement": agreement_table(record),
        "scores": score_lines(record),
        "examples": _examples(record),
        "open_examples": OPEN_EXAMPLES,
        "shares": _shares(record),
        "lengths": length_table(record),
        "distances": distance_tables(record, rows),
        "quantiles": study_lines(record),
        "quantile_figures": ["quantiles"],
        "search": search_table(record),
        "budgets": effective_budgets(record),
        "overlaps": overlap_lines(record),
        "certificates": [_certificate(found, record.legend) for found in record.certificates],
        "costs": _costs(record.stages),
        "total": _total(record.stages),
        "quarantined": _quarantined(record),
        "most_quarantined": MOST_QUARANTINED,
        "config": yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True),
        "command": record.command or "tis-ray run config.yaml",
        "duration": duration,
        "pairs": "seeds",
        "one_study": True,
    }
    has = {name for name, value in content.items() if value} | set(figures)
    selected = {"shares", "lengths", "map", "scores", "overlaps", "budgets"}
    page = Page(
        title=record.name,
        kind="report",
        facts=_facts(record, rows),
        headline=headline(rows),
        warnings=warnings_of(rows),
        sections=(
            Section("results", "Results", "tables" in has),
            Section("gains", "Cost against gain", "gains" in has),
            Section("ranks", "Ranks", "ranks" in has),
            Section("quantiles", "Quantiles", bool(content["quantiles"])),
            Section("search", "Settings of fine-tuning", "search" in has),
            Section("selected", "What was selected", bool(selected & has)),
            Section("orderings", "Orderings", bool(content["scores"] or content["agreement"])),
            Section("distances", "Distances", bool(content["distances"])),
            Section("certificates", "Exactness", "certificates" in has),
            Section("examples", "Selected examples", "examples" in has),
            Section("cost", "Cost", "costs" in has),
            Section("quarantine", "Quarantine"),
            Section("again", "Run it again"),
            Section("reading", "How to read the numbers"),
        ),
        script=SCRIPT if content["examples"] else "",
        version=record.environment.get("tis_ray", ""),
    )
    return write_page(page, out_dir, content)


def _facts(record: StudyRecord, rows: Sequence[TableRow]) -> list[str]:
    """Return the size of the study in a few words each."""
    methods = {r.method for r in rows if not r.method.is_baseline}
    budgets = sorted({r.budget for r in rows if r.budget})
    seeds = {seed for r in rows for seed in r.seeds if seed is not None}
    pool = record.pool_rows
    queries = len((record.map or {}).get("query_xy") or [])
    facts = [f"{pool:,} pool rows" if pool else "", f"{queries:,} queries" if queries else ""]
    facts += [f"{len(methods)} methods" if len(methods) > 1 else ""]
    facts += [_listed("budget", [f"{b:,}" for b in budgets])]
    facts += [_listed("seed", [str(s) for s in sorted(seeds)])]
    facts += [re.sub(r"^(\S{10})T(\d\d:\d\d)\S*?(Z|\+00:00)$", r"\1 \2 UTC", record.created)]
    return [fact for fact in facts if fact]


def _listed(word: str, values: Sequence[str]) -> str:
    return f"{word}{'s' if len(values) > 1 else ''} {', '.join(values)}" if values else ""


def _examples(record: StudyRecord) -> list[dict[str, object]]:
    """Return the first selected rows of each ordering, texts cut to fit the page."""
    shown = sum(min(len(ordering["rows"]), MOST_EXAMPLES) for ordering in record.orderings)
    most = max(300, min(4000, int(TEXT_BUDGET / 1.5 / max(shown, 1))))
    return [
        {
            "name": record.legend.method(Method.from_json(ordering)),
            "budget": ordering["budget"],
            "rows": [
                {
                    "score": "" if row.get("score") is None else f"{row['score']:.4g}",
                    "clarity": clarity(row, len(ordering["rows"])),
                    "source": row.get("source") or "",
                    "id": row.get("id") or "",
                    "text": _cut(row.get("text"), most),
                    "query": row.get("query_id") or row.get("query", "?"),
                    "query_text": _cut(row.get("query_text"), most // 2),
                }
                for row in ordering["rows"][:MOST_EXAMPLES]
            ],
        }
        for ordering in record.orderings
    ]


def _cut(text: str | None, most: int) -> str:
    text = text or ""
    if len(text) <= most:
        return text
    return f"{text[:most]}… [{len(text) - most:,} more characters]"


def _shares(record: StudyRecord) -> dict[str, object] | None:
    """Return the composition as a table: a source a line, counts and percent of each column."""
    columns = {part: c for part, c in record.composition.items() if sum(c.values())}
    if not columns:
        return None
    sources = Counter[str]()
    for counts in columns.values():
        sources.update(counts)
    pool = columns.get(POOL, {})
    order = sorted(sources, key=lambda source: (-pool.get(source, 0), source))
    return {
        "columns": [record.legend.part(part) for part in columns],
        "rows": [
            (
                source,
                [
                    f"{c.get(source, 0):,} ({100 * c.get(source, 0) / sum(c.values()):.1f}%)"
                    for c in columns.values()
                ],
            )
            for source in order
        ],
    }


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


def _costs(stages: Iterable[StageCost]) -> list[dict[str, object]]:
    """Return one line a stage: its artifacts added up."""
    groups: dict[str, list[StageCost]] = defaultdict(list)
    for stage in stages:
        groups[stage.stage].append(stage)
    return [
        {
            "stage": name,
            "artifacts": len(parts),
            "reused": sum(p.reused for p in parts),
            **_total(parts),
            "rows": sum(p.rows for p in parts),
            "quarantined": sum(p.quarantined for p in parts),
            "device": ", ".join(sorted({p.device for p in parts} - {""})),
            "peak_mb": max(p.peak_mb for p in parts),
        }
        for name, parts in groups.items()
    ]


def _total(stages: Iterable[StageCost]) -> Mapping[str, float]:
    """Return seconds spent now, and seconds saved by reuse."""
    seconds = {"computed": 0.0, "saved": 0.0}
    for stage in stages:
        seconds["saved" if stage.reused else "computed"] += stage.seconds
    return seconds


def _quarantined(record: StudyRecord) -> list[tuple[str, str, int]]:
    """Return (side, reason, count), the largest first."""
    counts = Counter(
        (row.get("side") or "?", row.get("reason") or "?") for row in record.quarantined
    )
    return [(side, reason, count) for (side, reason), count in counts.most_common()]
