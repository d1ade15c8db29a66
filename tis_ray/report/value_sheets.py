"""Tables of all that the cells of a study measured: means over seeds, and every run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from tis_ray.analysis import Cell, Method
from tis_ray.report.formatting import plain_number
from tis_ray.report.record import StudyRecord
from tis_ray.report.sheets import Sheet


def _names(record: StudyRecord) -> list[str]:
    """Return all that any cell has measured, whatever it is, in the order of its first appearance."""
    return list(dict.fromkeys(name for cell in record.cells for name in cell.metrics))


def everything_sheet(record: StudyRecord) -> Sheet:
    """Return the mean over seeds of all that was measured, metrics and what stands beside them."""
    names, groups = _names(record), defaultdict[tuple[Method, int], list[Cell]](list)
    for cell in record.own_cells:
        groups[cell.method, cell.budget].append(cell)
    return Sheet(
        "values",
        "Everything measured",
        "Means over seeds, as they are in the record: shares from 0 to 1. A dash is a value that no seed has.",
        ("Method", "Budget", "Seeds", *names),
        [
            (
                record.legend.method(method),
                budget or "",
                len(cells),
                *(_mean([cell.metrics.get(name) for cell in cells]) for name in names),
            )
            for (method, budget), cells in groups.items()
        ],
        frozenset({"Budget", *names}),
    )


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return plain_number(fmean(known), 4).removeprefix("+") if known else "–"


def cells_sheet(record: StudyRecord) -> Sheet:
    """Return every training run with its values, and what it took."""
    names = _names(record)
    facts = ("train_rows", "train_tokens", "optimizer_steps", "seconds_train", "peak_mb")
    return Sheet(
        "cells",
        "Every cell",
        "A training run a line, all digits that matter.",
        ("Method", "Budget", "Seed", "Draw", *names, *facts),
        [
            (
                record.legend.method(cell.method),
                str(cell.budget or ""),
                "" if cell.seed is None else str(cell.seed),
                "" if cell.draw is None else str(cell.draw),
                *(
                    "" if value is None else f"{value:.7g}"
                    for value in (
                        *(cell.metrics.get(name) for name in names),
                        *(getattr(cell, fact) for fact in facts),
                    )
                ),
            )
            for cell in record.cells
        ],
        frozenset({"Budget", "Seed", "Draw", *names, *facts}),
    )
