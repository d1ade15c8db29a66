"""Page, terminal, tracker and advice name the same winner, and in studies whose methods are all random hardly ever one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from tis_ray.analysis import Cell, Method
from tis_ray.report import StudyRecord
from tis_ray.report.headline import headline
from tis_ray.report.recommendation import advice
from tis_ray.report.study_results import RECORD
from tis_ray.study.summary import print_answer, results_tables
from tis_ray.study.tracked_numbers import NO_WINNER, winner_numbers

METHODS = [Method("less", "round_robin"), Method("less", "uot"), Method("embed", "round_robin")]
BUDGETS = (50, 100)


def made_up(
    rng: np.random.Generator, gain: float = 0.0, seeds: int = 5, rows: int = 40
) -> StudyRecord:
    """A study whose methods select random subsets (the first is better by `gain`): luck, training, rows."""
    level_R = rng.normal(1.0, 0.3, rows)
    cells = []
    for budget in BUDGETS:
        for method in (Method("random", "random"), *METHODS):
            luck = rng.normal(0, 0.05)
            for seed in range(seeds):
                if method.is_random:
                    luck = rng.normal(0, 0.05)
                better = gain if method == METHODS[0] else 0.0
                values_R = level_R + luck - better + rng.normal(0, 0.02) + rng.normal(0, 0.1, rows)
                values = values_R.tolist()
                metrics = {"test_loss": float(np.mean(values))}
                cells.append(Cell(method, budget, seed, metrics, rows={"test_loss": values}))
    return StudyRecord(name="made-up", cells=cells)


def named(record: StudyRecord, folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Return what page, terminal and advice name as winners, each "method @ budget".

    The tracker names the page's.
    """
    rows = record.table()
    found = headline(rows)
    page = [found.sentence.partition(" beats random at budget ")] if found.tone == "good" else []
    console = Console(file=io.StringIO(), width=120)
    print_answer(rows, console)
    (table,) = results_tables(rows)
    names = list(table.columns[0].cells)
    terminal = [
        str(name) for name, row in zip(names, table.rows, strict=True) if row.style == "bold green"
    ]
    record.save(folder / RECORD)
    advised = []
    for budget in BUDGETS:
        line = next(advice([folder], budget, 2000, "test_loss"))
        if line.startswith("use "):
            advised.append(line.removeprefix("use ").partition(":")[0].replace(" at ", " @ "))
    first = [f"{method} @ {rest.partition(':')[0]}" for method, _, rest in page]
    assert (" beats random " in console.file.getvalue()) == bool(first)
    _, tags = winner_numbers(rows)
    assert tags["tis.winner"] == (first[0] if first else NO_WINNER)
    return first, terminal, advised


def test_where_nothing_differs_a_winner_is_named_in_at_most_5_of_100_and_by_all(tmp_path) -> None:
    rng, tries, won = np.random.default_rng(0), 200, 0
    for _ in range(tries):
        page, terminal, advised = named(made_up(rng), tmp_path)
        assert bool(page) == bool(terminal) == bool(advised)
        won += bool(page)
    assert won / tries <= 0.05


def test_a_real_gain_is_named_by_all_alike(tmp_path) -> None:
    rng, seen = np.random.default_rng(1), 0
    for _ in range(20):
        page, terminal, advised = named(made_up(rng, gain=0.6), tmp_path)
        assert bool(page) == bool(terminal) == bool(advised)
        assert set(page) <= set(terminal)
        assert {name.rpartition(" @ ")[2] for name in advised} == {
            name.rpartition(" @ ")[2] for name in terminal
        }
        seen += bool(page)
    assert seen == 20
