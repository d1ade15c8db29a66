"""The closing table of a run."""

from __future__ import annotations

import io

from rich.console import Console

from tests.report.conftest import LEGEND
from tis_ray.analysis import Cell, summarise
from tis_ray.study.summary import results_tables


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
