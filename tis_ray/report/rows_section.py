"""The section on selected rows: all rows of every method, as data for the page's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tis_ray.analysis import Method
from tis_ray.report.record import StudyRecord


def rows_data(record: StudyRecord) -> dict[str, Any] | None:
    """Return each method's rows by number, and all texts once; None where nothing was selected.

    Of a method's rows: `index`, `score`, `query`, `margin`, `duplicates`, `nearest` (a rank from 1), each
    a list in the order of the ranks.
    """
    if not any(ordering["rows"] for ordering in record.orderings):
        return None
    texts: Mapping[str, Any] = record.texts or {"rows": [], "queries": []}
    return {
        "methods": [
            {
                "name": record.legend.method(Method.from_json(ordering)),
                "budgets": _budgets(record, Method.from_json(ordering)),
                **{
                    key: [row.get(key) for row in ordering["rows"]]
                    for key in ("index", "score", "query", "margin", "duplicates")
                },
                "nearest": [
                    None if (rank := row.get("nearest_rank")) is None else rank + 1
                    for row in ordering["rows"]
                ],
            }
            for ordering in record.orderings
        ],
        "rows": {
            row["index"]: {k: v for k, v in row.items() if k != "index"} for row in texts["rows"]
        },
        "queries": {query["query"]: query for query in texts["queries"]},
    }


def rows_hint(record: StudyRecord) -> str:
    """Say how many rows there are to look at."""
    counts = [len(ordering["rows"]) for ordering in record.orderings]
    methods = len(counts)
    rows = len({row["index"] for ordering in record.orderings for row in ordering["rows"]})
    whose = "one method" if methods == 1 else f"{methods} methods"
    return f"all {rows:,} rows that {whose} selected: search, sort, filter, compare, download"


def _budgets(record: StudyRecord, method: Method) -> list[int]:
    """Return the budgets that were trained, in rows."""
    found = {
        cell.budget: cell.train_rows or cell.budget
        for cell in record.own_cells
        if cell.method == method
    }
    return sorted(set(found.values()))
