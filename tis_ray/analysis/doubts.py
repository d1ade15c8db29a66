"""Where the doubt of a comparison comes from, and what would shrink it.

The parts of its spread (`analysis.samples`) each give a half-width of their own; the interval's is the root of
the sum of their squares. More runs shrink the factor 1 + 1/n (to 1, not to 0: the subset's own luck stays) and
Student's t; more test rows the rows' part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tis_ray.analysis.comparison import Comparison
from tis_ray.analysis.samples import Part, Spread


@dataclass(frozen=True)
class Doubt:
    """Half-widths of a comparison's 95% interval: whole, by part, and what they would be."""

    whole: float
    luck: float
    """By the runs: of other subsets, draws or seeds."""
    rows: float | None
    """By the test rows; None where their values are not known."""
    more_runs: float
    """With twice as many runs."""
    more_rows: float | None
    """With four times as many test rows."""


def doubt(found: Comparison) -> Doubt | None:
    """Return where a comparison's doubt comes from; None where it has no interval."""
    if found.low is None or not found.spread.parts:
        return None
    first, *others = found.spread.parts
    rows = others[0] if others else None
    more = Part(first.name, first.variance * _shrunk(found), 2 * found.n - 1)
    return Doubt(
        whole=found.spread.half(),
        luck=_half([first]),
        rows=None if rows is None else _half([rows]),
        more_runs=_half([more, *others]),
        more_rows=None
        if rows is None
        else _half([first, replace(rows, variance=rows.variance / 4, df=4 * rows.df + 3)]),
    )


def _shrunk(found: Comparison) -> float:
    """Return by which factor twice the runs change the variance of the first part."""
    n = found.n
    if found.question == "models":
        return 1 / 2
    if "both" in found.spread.parts[0].name:
        return 1.0
    return (1 + 1 / (2 * n)) / (1 + 1 / n)


def _half(parts: Sequence[Part]) -> float:
    return Spread(tuple(parts)).half()
