"""The closing table of a run."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from tests.report.conftest import LEGEND
from tis_ray.analysis import Cell, summarise
from tis_ray.study.summary import print_answer, results_tables


def tables_of(rows):
    return results_tables(summarise([Cell.from_json(row) for row in rows], LEGEND))


def shown(rows):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(*tables_of(rows))
    return console.export_text()


def cells(**metrics):
    zero = {"representation": "zero_shot", "selector": None, "budget": 0, "seed": None}
    rows = [zero | {name: value + 0.5 for name, value in metrics.items()}]
    for representation, selector in (("random", "random"), ("less", "round_robin")):
        for seed in range(3):
            shift = 0.1 * (representation == "random") + 0.01 * seed
            found = {name: value + shift for name, value in metrics.items()}
            rows.append(
                {"representation": representation, "selector": selector, "budget": 10}
                | {"seed": seed}
                | found
            )
    return rows


def test_loss_and_exact_match_stand_side_by_side():
    tables = tables_of(cells(test_loss=1.0, query_loss=1.0, exact_match=0.3))
    assert len(tables) == 1
    text = shown(cells(test_loss=1.0, query_loss=1.0, exact_match=0.3))
    assert "test loss" in text
    assert "exact match" in text
    assert "query loss" not in text
    assert "31.0%" in text  # mean of 0.30, 0.31, 0.32
    assert "LESS + round robin @ 10" in text


def test_metrics_of_tasks_follow_in_further_tables():
    rows = cells(test_loss=1.0, exact_match=0.3)
    for row in rows:
        row |= {"gsm8k/numeric_match": 0.25, "gsm8k/numeric_match_parse_failures": 0.5}
    assert len(tables_of(rows)) == 2
    text = shown(rows)
    assert "gsm8k: numeric match" in text
    assert "50% unreadable" in text


def test_names_with_brackets_stand_as_they_are():
    """A label or a metric may hold what rich would read as markup, or as a closing tag that opens nothing."""
    rows = cells(test_loss=1.0)
    for row in rows:
        row["t[/b]/acc [k]"] = 0.25
    table = summarise(
        [Cell.from_json(row) for row in rows],
        replace(LEGEND, selectors={"round_robin": "RR [v2][/x]"}),
    )
    console = Console(width=140, record=True, file=io.StringIO())
    print_answer(table, console)
    text = " ".join(console.export_text().split())
    assert "LESS + RR [v2][/x] @ 10" in text
    assert "LESS + RR [v2][/x] beats random at budget 10" in text
    assert "t[/b]: acc [k]" in text
