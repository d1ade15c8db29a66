"""A folder in the format of the paper's published results, with numbers that a reader can check.

Query loss of a run is BASE[method] - budget / 10,000 + OFFSETS[seed], plus 0.1 for the second task
and 0.5 for the second model; the metric is 100 times (1 - that loss). Along the quantiles LESS's
loss rises, EMBED's falls, and the first quantile's run is the smallest budget's of seed 0.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MODELS = ("llama2-7b", "olmo3-7b")
TASKS = ("bbh", "codex")
BASE = {"Random": 0.9, "EMBED (RR)": 0.95, "LESS (RR)": 0.7, "LESS (UOT)": 0.65}
BUDGETS = (500, 1000)
OFFSETS = (-0.01, 0.0, 0.04)  # mean 0.01, sd √0.0007
SLOPES = {"EMBED (RR)": -0.02, "LESS (RR)": 0.03}
BINS = 10
Loss = Callable[..., float]


def loss_of(model: int, task: int, method: str, budget: int, seed: int) -> float:
    """Return the query loss of one run."""
    return BASE[method] - budget / 10_000 + OFFSETS[seed] + 0.1 * task + 0.5 * model


def write_published(folder: Path, *, sub: bool = False) -> Path:
    """Write the files of two models into `folder`, the first one's first bin cut again with `sub`."""
    for i, model in enumerate(MODELS):
        runs, curves, zero = [], [], []
        for j, task in enumerate(TASKS):
            zero.append((task, 1.0 + 0.1 * j + 0.5 * i))
            for method in reversed(BASE):  # files need not be in the order of tables
                for budget in BUDGETS:
                    for seed in (2, 0, 1):
                        runs.append(
                            (task, method, budget, seed, loss_of(i, j, method, budget, seed))
                        )
            for method, slope in SLOPES.items():
                first = loss_of(i, j, method, BUDGETS[0], 0)
                curves += [(task, method, b, first + slope * b) for b in range(BINS)]
        write_kinds(folder / model, "budget_{}_budget", ("num_samples", "seed"), runs)
        write_kinds(folder / model, "budget_{}_zero_shot", None, zero)
        write_kinds(folder / model, "binning_{}_quantile", ("bin",), curves)
        if sub and i == 0:
            write_kinds(folder / model, "sub_bin0_focus_{}_quantile", ("bin",), curves)
    return folder


def write_kinds(
    folder: Path, name: str, axes: Sequence[str] | None, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Write one table as the two files that the paper has: of losses, and of the metric."""
    keys = ["dataset"] if axes is None else ["dataset", "method", *axes]
    losses = [(*row, 2 * row[-1]) for row in rows]  # dev, test
    metrics = [(*row[:-1], 100 * (1 - row[-1])) for row in rows]
    write_csv(folder / f"{name.format('ce_loss')}.csv", [*keys, "dev", "test"], losses)
    write_csv(folder / f"{name.format('true_metric')}.csv", [*keys, "true_metric"], metrics)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
