"""Test rows that are queries too: results on them say little. Needs neither models nor Ray."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple


class Shared(NamedTuple):
    """Test rows that are queries too: what to say of them, and whether all are."""

    line: str
    all: bool


def shared_rows(query: Set[str], test: Set[str]) -> Shared | None:
    """Return what to say of test rows that are queries too, by their contents; None where none is."""
    both = test & query
    if not both:
        return None
    cure = "hold out some of the queries instead (`data.query: {path: ..., holdout: 0.3}`)"
    if both == test:
        line = (
            f"data.test: all of its {len(both)} rows are queries (data.query), so models would be measured "
            f"on what steered the selection, and pool rows near the queries dropped; {cure}, or leave "
            "data.test out, which a selection does not need"
        )
        return Shared(line, True)
    line = (
        f"data.test: {len(both)} of its {len(test)} rows are queries (data.query) too, so "
        f"results on them say little, and pool rows near these queries are dropped; {cure}"
    )
    return Shared(line, False)
