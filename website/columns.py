"""The reference of columns: of each table that people read, from the schema that it is written with."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

from tis_ray.analysis.study_values import Cell
from tis_ray.data.rows import RejectReason
from tis_ray.finished.choices import EXPLAINED
from tis_ray.finished.subset import NOTES, PULLED_BY
from tis_ray.report.record import StudyRecord
from tis_ray.stages.ordering_artifact import ORDERED
from tis_ray.stages.screen import OVERLAPPING
from tis_ray.store.columns import Column
from tis_ray.store.sides import QUARANTINED

INTRODUCTION = """# Columns

What stands in the files that a study leaves. This page is made from the schemas in the code when the site is built.
Where each file is: [What a study leaves behind](../files.md).

"""

TABLES: tuple[tuple[str, str, Mapping[str, Column]], ...] = (
    (
        "`ordering.parquet`",
        "`runs/NAME/orderings/METHOD/ordering.parquet`: the pool ranked by one method, best first, as far as the largest budget.",
        ORDERED,
    ),
    (
        "Subsets: `tis_ray`",
        "`runs/NAME/subsets/METHOD-BUDGET.*`: the selected rows with all their own columns, and one more (`tis_ray_2` where they have a `tis_ray`).",
        NOTES,
    ),
    ("Subsets: `tis_ray.query`", "The query that pulled the row.", PULLED_BY),
    (
        "`explain/METHOD.parquet` and `.csv`",
        "Written by `tis-ray explain`, with the columns of `ordering.parquet` but `index` and `query`.",
        EXPLAINED,
    ),
    (
        "`quarantine.parquet`",
        "Rows that cannot be used, in the artifact that found it out (`rows-*`, `tokens-*`, `features-*`, `scores-*`).",
        QUARANTINED,
    ),
    (
        "`overlaps.parquet`",
        "`artifacts/screen-*/overlaps.parquet`: pool rows that repeat query or test rows ([how](../overlap.md)).",
        OVERLAPPING,
    ),
)


def columns_page() -> str:
    """Return the page of all tables, the reasons of the quarantine, and the record of a study."""
    return INTRODUCTION + "\n".join(_lines())


def _lines() -> Iterator[str]:
    for title, about, columns in TABLES:
        yield f"## {title}\n\n{about}\n\n| column | type | |\n|---|---|---|"
        for name, column in columns.items():
            yield _row(name, _type_name(column.type), column.about)
        yield ""
    yield "## Reasons in the quarantine\n\nHow to repair rows: [Rows](../data.md#what-cannot-be-used).\n\n| reason | what was found |\n|---|---|"
    found = docstrings(RejectReason)
    for reason in RejectReason:
        yield f"| `{reason.value}` | {_cell(found[reason.name])} |"
    yield "\n## `record.json`\n\n`runs/NAME/report/record.json`: all that a study's page is drawn from.\n\n| key | type | |\n|---|---|---|"
    yield from _of_dataclass(StudyRecord)
    yield "\n### A cell\n\nOne training run, or the untrained model. Beside these stand `representation`, `selector` and its metrics, by their names.\n\n| key | type | |\n|---|---|---|"
    yield from _of_dataclass(Cell, but=("method", "metrics"))
    yield ""


def docstrings(thing: type) -> dict[str, str]:
    """Return what is said of each attribute of a class, in the string below it."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    assert isinstance(made, ast.ClassDef)
    found = {}
    for before, after in zip(made.body, made.body[1:], strict=False):
        target = before.target if isinstance(before, ast.AnnAssign) else None
        if isinstance(before, ast.Assign):
            target = before.targets[0]  # type: ignore[assignment]
        said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(target, ast.Name) and said:
            found[target.id] = str(after.value.value)  # type: ignore[attr-defined]
    return found


def _of_dataclass(kind: Any, but: Collection[str] = ()) -> Iterator[str]:
    found = docstrings(kind)
    for each in fields(kind):
        if each.name not in but:
            yield _row(each.name, str(each.type), found.get(each.name, ""))


def _type_name(kind: Any) -> str:
    return "object" if str(kind).startswith("struct") else str(kind)


def _row(name: str, kind: str, about: str) -> str:
    return f"| `{name}` | `{_cell(kind)}` | {_cell(about)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
