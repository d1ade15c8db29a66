"""The page of several studies, or of the paper's results: what stands in which section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tis_ray.analysis import TableRow
from tis_ray.analysis.comparison import Pairs
from tis_ray.analysis.pooled_table import comparisons, is_one_cell, pooled_runs
from tis_ray.analysis.ranks import rank_tables
from tis_ray.analysis.result_arrays import Family, Results
from tis_ray.metrics.description import MetricDescription
from tis_ray.paper.budget_tables import Table
from tis_ray.report.figures import Drawing, difference_name
from tis_ray.report.findings import details
from tis_ray.report.formatting import counted, decimals, decimals_of, number, sentence
from tis_ray.report.headline import headline
from tis_ray.report.html import Page, Section, write_page
from tis_ray.report.quantiles_section import cell_lines
from tis_ray.report.ranks_section import rank_lines
from tis_ray.report.results_section import Difference, difference, results_table, warnings_of


@dataclass(frozen=True)
class AgainstReference:
    """The differences of a family's selectors to its reference by one metric, as texts."""

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
    out_dir: str | Path,
) -> Path:
    """Write `out_dir/index.html` atomically and return its path. Equal input, equal bytes.

    rows: the table of `analysis.pooled_table` over the widest scope. figures: all, by file name.
    model_figures: model → the names of its own.
    """
    models = results.scopes[results.scope]
    pairs: Pairs = "seeds" if is_one_cell(results, models) else "cells"
    content = {
        "figures": figures,
        "tables": [
            results_table(rows, metric, [difference_name(results.figure_names[metric.name])], pairs)
            for metric in results.shown
        ],
        "quantiles": cell_lines(results, tables.get("quantile_summary", {})),
        "quantile_figures": [],
        "selectors": [
            table
            for family in results.families()[1:]
            for metric in results.shown
            if (table := _against_reference(results, family, metric))
        ],
        "ranks": rank_lines(
            {
                metric: rank_tables(
                    pooled_runs(results, metric.name, models),
                    lower_is_better=metric.lower_is_better,
                )
                for metric in results.shown
            },
            results.legend,
            pairs,
        ),
        "noise": _noise(results, tables, rows),
        "tasks": results.tasks,
        "model_figures": model_figures,
        "pairs": pairs,
        "one_study": False,
        "quantile_seeds": results.quantile_seeds,
    }
    page = Page(
        title=results.name,
        kind="analysis",
        facts=_facts(results),
        headline=headline(rows, results.metric, details(results, tables, rows)),
        warnings=warnings_of(rows),
        sections=(
            Section("results", "Results"),
            Section("quantiles", "Quantiles", bool(content["quantiles"])),
            Section("selectors", "Selectors", bool(content["selectors"])),
            Section("ranks", "Ranks", bool(content["ranks"])),
            Section("noise", "Noise"),
            Section("figures", "Figures"),
            Section("reading", "How to read the numbers"),
        ),
    )
    return write_page(page, out_dir, content)


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
    return AgainstReference(f"{sentence(metric.words)}, {family.title}", name, over, lines)


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
