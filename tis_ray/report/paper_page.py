"""The page of several studies, or of the paper's results: texts for the templates in `studies/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tis_ray.analysis.results import Measure, Results
from tis_ray.report.figures import Drawing
from tis_ray.report.findings import (
    headline,
    pairs_words,
    scope_of,
    shown,
    span,
)
from tis_ray.report.html import Page, Section, write_page
from tis_ray.report.words import plain_number

Table = Mapping[str, Any]


def build_page(
    results: Results,
    tables: Table,
    figures: Mapping[str, Sequence[Drawing]],
    out_dir: str | Path,
) -> Path:
    """Write `out_dir/index.html` atomically and return its path. Equal input, equal bytes.

    `figures` is model → its figures, with the entry `""` for those over all models.
    """
    content = {
        "results": results,
        "figures": figures,
        "distances": _distances(results, tables),
        "against": [
            _comparison(results, tables, "difference_to_random", measure)
            for measure in shown(results)
        ],
        "zero_shot": [
            _comparison(results, tables, "difference_to_zero_shot", measure)
            for measure in shown(results)
            if any(tables["difference_to_zero_shot"][scope_of(results)][measure.name].values())
        ],
        "selectors": [
            _comparison(results, tables, "selector_vs_rr", measure)
            for measure in shown(results)
            if "selector_vs_rr" in tables
        ],
        "ranks": _ranks(results, tables),
        "noise": _noise(results, tables),
        "pairs": pairs_words(results),
        "one_cell": len(results.models) * len(results.tasks) == 1,
    }
    page = Page(
        title=results.name,
        kind="analysis",
        folder="studies",
        facts=_facts(results),
        headline=headline(results, tables),
        sections=(
            Section("random", "Against random"),
            Section("distance", "Distance", bool(content["distances"])),
            Section("selectors", "Selectors", bool(content["selectors"])),
            Section("zero", "Against zero-shot", bool(content["zero_shot"])),
            Section("ranks", "Ranks"),
            Section("noise", "Noise"),
            Section("figures", "Figures"),
            Section("reading", "How to read the numbers"),
        ),
    )
    return write_page(page, out_dir, content)


def _facts(results: Results) -> list[str]:
    """Return the size of what was analysed in a few words each."""
    return [
        _count(len(results.models), "model"),
        _count(len(results.tasks), "task"),
        _count(len(results.methods), "method"),
        f"budgets {', '.join(f'{b:,}' for b in results.budgets)}",
        f"seeds {', '.join(map(str, results.seeds))}",
        *([_count(len(results.representations), "quantile curve")] if results.quantiles else []),
    ]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _distances(results: Results, tables: Table) -> list[dict[str, Any]]:
    """Return one line for each measure and representation of the quantile experiment."""
    lines = []
    for measure in shown(results):
        for name in results.representations if measure.name in results.quantiles else ():
            counts = tables["quantile_summary"][measure.name][name]["all"]
            if "mean_spearman" not in counts:
                continue
            low, high = counts["mean_spearman_low"], counts["mean_spearman_high"]
            lines.append(
                {
                    "measure": measure.words,
                    "way": "rises" if measure.lower_is_better else "falls",
                    "name": name,
                    "mean": plain_number(counts["mean_spearman"], 2),
                    "range": ""
                    if low is None
                    else f"[{plain_number(low, 2)}, {plain_number(high, 2)}]",
                    "median": plain_number(counts["median_spearman"], 2),
                    "expected": _significant(counts, "expected", f" of {counts['n']}"),
                    "wrong": _significant(counts, "wrong"),
                    "nearest": counts["n_q1_best"],
                    "n": counts["n"],
                }
            )
    return lines


def _significant(counts: Table, side: str, of: str = "") -> str:
    """Return how many curves are significant, and in brackets after Holm's correction."""
    if counts[f"n_exact_{side}"] is None:
        return "too few points"
    return f"{counts[f'n_exact_{side}']}{of} ({counts[f'n_holm_{side}']})"


def _comparison(results: Results, tables: Table, name: str, measure: Measure) -> dict[str, Any]:
    """Return one table of differences as texts: a method a line, a budget a column."""
    found = tables[name][scope_of(results)][measure.name]
    return {
        "title": _upper(measure.words),
        "direction": "lower" if measure.lower_is_better else "higher",
        "unit": " (points)" if measure.scale == 100 else "",
        "rows": [
            {
                "name": method,
                "cells": [
                    _difference(by_budget.get(str(budget)), measure) for budget in results.budgets
                ],
            }
            for method, by_budget in found.items()
        ],
    }


def _difference(numbers: Table | None, measure: Measure) -> dict[str, Any] | None:
    if numbers is None:
        return None
    verdict = numbers["verdict"]
    doubt = verdict != "cannot tell" and not (numbers["p_holm"] or 0) < 0.05
    counted = f"{numbers['better']} of {numbers['n']} better"
    return {
        "value": plain_number(measure.scale * numbers["difference"], measure.places),
        "range": span(numbers, measure),
        "tone": verdict.replace(" ", "-"),
        "verdict": verdict,
        "mark": "†" if doubt else "",
        "counted": counted if numbers["pairs"] == "cells" else f"{numbers['n']} seeds",
    }


def _ranks(results: Results, tables: Table) -> list[dict[str, Any]]:
    """Return mean ranks by family and measure, the best of each budget marked."""
    found = []
    for family in results.families():
        for measure in shown(results):
            summary = tables["budget_summary"][scope_of(results)][family.name][measure.name]
            ranks = summary["mean_rank"]
            lowest = {
                str(b): min((r[str(b)] for r in ranks.values() if r[str(b)] is not None), default=0)
                for b in results.budgets
            }
            found.append(
                {
                    "title": _upper(f"{measure.words}, {family.title}"),
                    "rows": [
                        {
                            "name": name,
                            "cells": [
                                {
                                    "value": "–" if (r := by[str(b)]) is None else f"{r:.2f}",
                                    "best": r is not None and r <= lowest[str(b)] + 1e-9,
                                    "wins": summary["wins"][name][str(b)],
                                }
                                for b in results.budgets
                            ],
                        }
                        for name, by in ranks.items()
                    ],
                }
            )
    return found


def _noise(results: Results, tables: Table) -> list[dict[str, Any]]:
    """Return the standard deviation over seeds by task, of all methods and of random."""
    return [
        {
            "name": f"{measure.words}, {'random' if part else 'all methods'}",
            "cells": [
                "–"
                if (value := tables["seed_sd_by_task"][measure.name + part][task]) is None
                else f"{measure.scale * value:.{measure.places + 1}f}"
                for task in results.tasks
            ],
        }
        for measure in shown(results)
        for part in ("", "_random")
    ]
