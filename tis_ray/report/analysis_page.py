"""The page of several studies, or of the paper's results: what stands in which section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tis_ray.analysis import TableRow
from tis_ray.analysis.comparison import Pairs
from tis_ray.analysis.pooled_table import comparisons, is_one_cell, pooled_runs
from tis_ray.analysis.ranks import rank_tables
from tis_ray.analysis.result_arrays import Family, Results
from tis_ray.metrics.description import MetricDescription
from tis_ray.paper.budget_tables import Table
from tis_ray.report.charts import Drawing, figure_name
from tis_ray.report.findings import details
from tis_ray.report.formatting import (
    counted,
    decimals,
    decimals_of,
    number,
    sentence,
)
from tis_ray.report.headline import headline
from tis_ray.report.html import Page, Section, write_page
from tis_ray.report.quantiles_section import cell_lines, quantile_sheet
from tis_ray.report.ranks_section import RankLines, rank_lines, rank_sheets
from tis_ray.report.results_section import (
    Difference,
    difference,
    results_table,
    warnings_of,
)
from tis_ray.report.results_sheet import results_sheet
from tis_ray.report.sheets import Sheet, file_part, sheet
from tis_ray.report.terms import study_terms
from tis_ray.storage import AnyPlace, Place


@dataclass(frozen=True)
class AgainstReference:
    """The differences of a family's selectors to its reference by one metric, as texts."""

    metric: str
    title: str
    reference: str
    over: str
    rows: list[tuple[str, str, Difference]]
    """Method, budget, difference."""


def build_page(
    results: Results,
    tables: Table,
    rows: Sequence[TableRow],
    figures: Mapping[str, Drawing],
    model_figures: Mapping[str, Sequence[str]],
    out_dir: AnyPlace,
) -> Place:
    """Write `out_dir/index.html` atomically and return its path. Equal input, equal bytes.

    rows: the table of `analysis.pooled_table` over the widest scope. figures: all, by file name.
    model_figures: model → the names of its own.
    """
    content = {
        "tables": [
            results_table(
                rows,
                metric,
                [name] if (name := difference_name(results, metric)) in figures else [],
                _pairs(results),
            )
            for metric in results.shown
        ],
        "quantiles": cell_lines(results, tables.get("quantile_summary", {})),
        "quantile_figures": [],
        "selectors": _selectors(results),
        "ranks": _ranks(results),
        "noise": _noise(results, tables, rows),
        "tasks": results.tasks,
        "model_figures": model_figures,
        "pairs": _pairs(results),
        "one_study": False,
        "quantile_seeds": results.quantile_seeds,
    }
    page = Page(
        title=results.name,
        kind="analysis",
        facts=_facts(results),
        headline=headline(rows, results.metric, details(results, tables, rows)),
        figures=figures,
        metrics={metric.name: metric.words for metric in _leading_first(results)},
        warnings=warnings_of(rows),
        terms=study_terms(results.legend, rows),
        sections=(
            Section("results", "Results", "Results"),
            Section("selectors", "Selectors", "Selectors against each other",
                    bool(content["selectors"])),
            Section("ranks", "Ranks", "Which selector and which representation come first",
                    bool(content["ranks"]), fold=True),
            Section("quantiles", "Quantiles", "Is nearer data better data?",
                    bool(content["quantiles"]), fold=True),
            Section("figures", "Figures", "Figures by model", fold=True, hint="as the paper draws them"),
            Section("noise", "Noise", "Noise", fold=True, hint="how much seeds differ"),
            Section("reading", "Reading", "How to read the numbers", fold=True),
        ),
    )  # fmt: skip
    return write_page(page, out_dir, content | {"figures": figures})


def difference_name(results: Results, metric: MetricDescription) -> str:
    """Return the name of the figure of a metric's differences to random."""
    return figure_name("difference", results.figure_names[metric.name])


def analysis_sheets(results: Results, tables: Table, rows: Sequence[TableRow]) -> list[Sheet]:
    """Return the tables of the page for files."""
    found = [
        results_sheet(
            rows, m, figure_name("results", results.figure_names[m.name]), _pairs(results)
        )
        for m in results.shown
    ]
    for place, table in enumerate(_selectors(results), 1):
        heads = {"method": "Method", "budget": "Budget", "difference": "Difference"}
        heads |= {"interval": "95% interval", "p": "p", "verdict": "Verdict"}
        lines = [{"method": m, "budget": b, **vars(found)} for m, b, found in table.rows]
        note = f"Difference to {table.reference}, over {table.over}."
        name = f"selectors_{place}_{file_part(table.metric)}"
        found.append(
            sheet(name, table.title, note, heads, lines, ("budget", "difference", "interval", "p"))
        )
    found += rank_sheets(_ranks(results))
    found.append(
        quantile_sheet(cell_lines(results, tables.get("quantile_summary", {})), "over cells")
    )
    found.append(
        Sheet(
            "noise",
            "Noise by task",
            "Standard deviation over seeds, mean over models, methods and budgets.",
            ("Value", *results.tasks),
            [(name, *cells) for name, cells in _noise(results, tables, rows)],
            frozenset(results.tasks),
        )
    )
    return [table for table in found if table.rows]


def _leading_first(results: Results) -> list[MetricDescription]:
    """Return the metrics; the one that the headline is about comes first and is shown first."""
    return sorted(results.shown, key=lambda metric: metric.name != results.metric)


def _pairs(results: Results) -> Pairs:
    return "seeds" if is_one_cell(results, results.scopes[results.scope]) else "cells"


def _selectors(results: Results) -> list[AgainstReference]:
    return [
        table
        for family in results.families()[1:]
        for metric in results.shown
        if (table := _against_reference(results, family, metric))
    ]


def _ranks(results: Results) -> list[RankLines]:
    models = results.scopes[results.scope]
    return rank_lines(
        {
            metric: rank_tables(
                pooled_runs(results, metric.name, models), lower_is_better=metric.lower_is_better
            )
            for metric in results.shown
        },
        results.legend,
        _pairs(results),
    )


def _facts(results: Results) -> list[str]:
    """Return the size of what was analysed in a few words each."""
    return [
        counted(len(results.models), "model"),
        counted(len(results.tasks), "task"),
        counted(len(results.methods), "method"),
        f"budgets {', '.join(f'{b:,}' for b in results.budgets)}",
        f"seeds {', '.join(map(str, results.seeds))}",
        *([counted(len(results.representations), "quantile curve")] if results.quantiles else []),
    ]


def _against_reference(
    results: Results, family: Family, metric: MetricDescription
) -> AgainstReference | None:
    """Return what the family's other selectors gain over its reference, if it has one."""
    if family.reference is None:
        return None
    models = results.scopes[results.scope]
    others = [a for a in family.methods[1:] if a != family.reference]
    found = comparisons(results, metric.name, models, others, family.reference)
    places = decimals_of(metric, list(found.values()))
    lines = [
        (results.methods[a].name, f"{results.budgets[b]:,}", words)
        for (a, b), versus in sorted(found.items())
        if (words := difference(versus, metric, places))
    ]
    over = next((counted(versus.n, versus.pairs[:-1]) for versus in found.values()), "")
    name = results.methods[family.reference].name
    return AgainstReference(
        metric.name, f"{sentence(metric.words)}, {family.title}", name, over, lines
    )


def _noise(
    results: Results, tables: Table, rows: Sequence[TableRow]
) -> list[tuple[str, list[str]]]:
    """Return the standard deviation over seeds by task, of all methods and of random."""
    return [
        (
            f"{metric.words}, {'random' if part else 'all methods'}",
            [
                "–"
                if (value := tables["seed_sd_by_task"][metric.name + part][task]) is None
                else number(metric, value, decimals(rows, metric) + 1)
                for task in results.tasks
            ],
        )
        for metric in results.shown
        for part in ("", "_random")
    ]
