"""The report of one study: what stands in which section, for its templates, and the same as files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml

from tis_ray.analysis import TableRow
from tis_ray.analysis.ranks import rank_tables, ranked_runs
from tis_ray.report.answers_section import answers_data
from tis_ray.report.budgets_section import overlap_lines
from tis_ray.report.charts import figure_name
from tis_ray.report.cost_sheets import spent
from tis_ray.report.distances_section import distance_tables
from tis_ray.report.figures import drawings
from tis_ray.report.files import write_files
from tis_ray.report.formatting import decimals, duration, metrics_of
from tis_ray.report.gains_section import gain_tables
from tis_ray.report.headline import headline
from tis_ray.report.html import Page, Section, write_page
from tis_ray.report.pairs_section import MOST, pair_tables
from tis_ray.report.quantiles_section import study_lines
from tis_ray.report.ranks_section import RankLines, rank_lines
from tis_ray.report.record import StudyRecord
from tis_ray.report.results_section import results_table, warnings_of
from tis_ray.report.rows_section import rows_data, rows_hint
from tis_ray.report.sheets import Sheet
from tis_ray.report.study_sheets import all_sheets, plain_sheets, quarantined_rows
from tis_ray.report.terms import study_terms
from tis_ray.storage import AnyPlace, Place

MOST_QUARANTINED = 200
"""Quarantined rows listed one by one; the counts cover all."""


def build_report(record: StudyRecord, out_dir: AnyPlace) -> Place:
    """Write `out_dir/index.html` atomically and return its path. Equal records, equal bytes."""
    record = StudyRecord.from_json(record.to_json())  # plain types, as when redrawn from disk
    rows = record.table()
    metrics = metrics_of(rows)
    figures = drawings(record, rows)
    places = {metric.name: decimals(rows, metric) for metric in metrics}
    sheets = plain_sheets(record, rows)
    content = {
        "record": record,
        "tables": [
            results_table(
                rows,
                metric,
                [
                    name
                    for kind in ("budget", "difference")
                    if (name := figure_name(kind, metric.name)) in figures
                ],
            )
            for metric in metrics
        ],
        "pair_tables": pair_tables(record.pairs(), metrics, places),
        "most_pairs": MOST,
        "ranks": _ranks(record, rows),
        "gains": gain_tables(record, rows),
        "total": spent(record.stages),
        "sheets": sheets,
        "distances": distance_tables(record, rows),
        "quantiles": study_lines(record),
        "quantile_figures": ["quantiles"],
        "overlaps": overlap_lines(record),
        "quarantined": quarantined_rows(record, MOST_QUARANTINED),
        "most_quarantined": MOST_QUARANTINED,
        "config": yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True),
        "command": record.command or "tis-ray run config.yaml",
        "duration": duration,
        "pairs": "seeds",
        "one_study": True,
    }
    data = {"row-data": rows_data(record), "answer-data": answers_data(record)}
    page = Page(
        title=record.name,
        kind="report",
        facts=_facts(record, rows),
        headline=headline(rows),
        sections=_sections(record, content, set(figures), data, sheets),
        figures=figures,
        metrics={metric.name: metric.words for metric in metrics},
        warnings=warnings_of(rows),
        data=data,
        terms=study_terms(record.legend, rows),
        version=record.environment.get("tis_ray", ""),
    )
    return write_page(page, out_dir, content | {"figures": figures})


def write_study_files(record: StudyRecord, folder: AnyPlace) -> int:
    """Write every table and figure of a study into a folder; return how many files."""
    record = StudyRecord.from_json(record.to_json())
    rows = record.table()
    sheets = all_sheets(record, rows, record.pairs(), _ranks(record, rows))
    return write_files(folder, drawings(record, rows).values(), sheets)


def _sections(
    record: StudyRecord,
    content: Mapping[str, object],
    figures: set[str],
    data: Mapping[str, object],
    sheets: Mapping[str, Sheet],
) -> list[Section]:
    """Return the parts of the page in order: the answer's numbers, and folds with the rest."""
    has = {name for name, value in content.items() if value} | figures
    orderings = {"agreement", "scores"} & set(sheets)
    selected = {"composition", "lengths", "map", "overlaps"} & has or "budgets" in sheets

    def fold(anchor: str, words: str, title: str, shown: object, hint: str = "") -> Section:
        return Section(anchor, words, title, bool(shown), True, hint)

    return [
        Section("results", "Results", "Results", "tables" in has),
        Section(
            "pairs",
            "Methods",
            "Methods against each other",
            bool({"pair_tables", "ranks"} & has),
        ),
        Section("bill", "Bill", "The bill", bool(record.stages)),
        fold("doubt", "Doubt", "Where the doubt comes from", "doubt" in sheets,
             "luck of subsets, test rows, and what would shrink them"),
        fold("values", "Values", "Everything measured", "values" in sheets,
             "shares of unreadable and unfinished answers, too"),
        fold("rows", "Rows", "Selected rows", data["row-data"], rows_hint(record)),
        fold("answers", "Answers", "Answers beside labels", data["answer-data"],
             "what each method fixed and broke"),
        fold("selected", "Subsets", "What was selected", selected,
             "map, sources, lengths, overlap"),
        fold("orderings", "Orderings", "How the orderings compare", orderings,
             "agreement, ties, scores"),
        fold("quantiles", "Quantiles", "Is nearer data better data?", content["quantiles"]),
        fold("search", "Settings", "Settings of fine-tuning", "search" in sheets),
        fold("distances", "Distances", "How far each subset is from the queries",
             content["distances"]),
        fold("certificates", "Exactness", "How exact the scores are", "certificates" in sheets),
        fold("quarantine", "Quarantine", "Quarantine", True,
             f"{len(record.quarantined):,} rows could not be used" if record.quarantined else "none"),
        fold("again", "Again", "Run it again", True, "command, versions, config"),
        fold("reading", "Reading", "How to read the numbers", True,
             "intervals, tests, what is not covered"),
    ]  # fmt: skip


def _ranks(record: StudyRecord, rows: Sequence[TableRow]) -> list[RankLines]:
    return rank_lines(
        {
            metric: rank_tables(
                ranked_runs(record.cells, metric),
                lower_is_better=metric.lower_is_better,
                independent=False,
            )
            for metric in metrics_of(rows)
        },
        record.legend,
    )


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
