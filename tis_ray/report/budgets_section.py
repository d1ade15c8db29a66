"""The section on budgets as they were filled, and on pool rows that repeat query or test rows."""

from __future__ import annotations

from typing import Any

from tis_ray.report.record import StudyRecord

_SIDES = {"query": "queries", "test": "test rows"}


def effective_budgets(record: StudyRecord) -> list[dict[str, str]]:
    """Return a line for each subset that is not just the first rows of its ordering."""
    lines: dict[tuple[Any, ...], dict[str, str]] = {}
    for cell in record.own_cells:
        found = cell.subset
        if not found or (
            record.budget_unit == "examples" and not found["capped"] and not found["near"]
        ):
            continue
        key = (cell.method, *found.values())
        lines.setdefault(
            key,
            {
                "method": record.legend.method(cell.method),
                "budget": f"{found['budget']:,}",
                "rows": f"{found['rows']:,}",
                "amount": f"{found['amount']:,}",
                "capped": f"{found['capped']:,}",
                "near": f"{found['near']:,}",
            },
        )
    return list(lines.values())


def overlap_lines(record: StudyRecord) -> list[str]:
    """Return in sentences how much of the pool repeats queries or test rows."""
    found = record.overlaps or {}
    dropped = found.get("dropped", {})
    lines = []
    for side, kinds in found.get("counts", {}).items():
        rows = sum(count for kind, count in kinds.items() if kind != "targets")
        ways = ", ".join(f"{kinds[k]:,} {k}" for k in kinds if k != "targets" and kinds[k])
        fate = "dropped" if dropped.get(f"overlaps_{side}") else "kept"
        lines.append(
            f"{rows:,} pool rows repeat {kinds['targets']:,} {_SIDES[side]} ({ways}): {fate}."
        )
    if dropped.get("excluded"):
        lines.append(f"{dropped['excluded']:,} pool rows were excluded by the config.")
    return lines
