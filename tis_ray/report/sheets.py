"""Tables as columns of texts and whole numbers: one form for the page, CSV and LaTeX.

The digits are those of the page. Whole numbers have separators on the page and none in files; a minus
sign is the typographic one on the page, and the one that programs read in CSV.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tis_ray.report.charts import printable
from tis_ray.report.formatting import MINUS

Value = str | int

_TEX = {
    MINUS: "$-$",
    "ρ": r"$\rho$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "−": "$-$",
    "±": r"$\pm$",
    "–": "--",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "\\\\\n[": "\\\\\n{}[",
}
"""What LaTeX's own fonts lack or draw as another sign; a bracket after the end of a row would be its height."""


@dataclass(frozen=True)
class Sheet:
    """A table. rows: texts, or whole numbers, a value a column. note: what its numbers are."""

    name: str
    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    numeric: frozenset[str] = frozenset()
    """Columns set to the right besides those of whole numbers."""
    paper: Sheet | None = None
    """The table for LaTeX, where a page of paper has no room for all columns."""

    def on_page(self) -> list[list[tuple[str, bool]]]:
        """Return texts, each with whether it is set to the right."""
        right = self.right
        return [
            [
                (f"{value:,}" if isinstance(value, int) else value, column in right)
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]

    @property
    def right(self) -> set[str]:
        """The columns that are set to the right."""
        whole = {
            column
            for place, column in enumerate(self.columns)
            if any(isinstance(row[place], int) for row in self.rows)
        }
        return whole | self.numeric

    def csv(self) -> str:
        """Return the table as CSV with a header."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([[_plain(value) for value in row] for row in self.rows])
        return buffer.getvalue()

    def latex(self) -> str:
        """Return the table for LaTeX with booktabs, caption and label."""
        if self.paper is not None:
            return self.paper.latex()
        import pandas as pd  # late: no page needs it

        right = self.right
        frame = pd.DataFrame(
            [[f"{v:,}" if isinstance(v, int) else printable(v) for v in row] for row in self.rows],
            columns=list(self.columns),
            dtype=object,
        )
        text = frame.to_latex(
            index=False,
            escape=True,
            caption=printable(f"{self.title}. {self.note}").translate(_ESCAPED).strip(),
            label=f"tab:{self.name}",
            position="tb",
            column_format="".join("r" if column in right else "l" for column in self.columns),
        )
        for sign, command in _TEX.items():
            text = text.replace(sign, command)
        return text


_ESCAPED = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


def _plain(value: Value) -> Value:
    """Return a value as programs read it: "-0.045", not "−0.045"."""
    if isinstance(value, int):
        return value
    return value.replace(MINUS, "-") if value[:1] == MINUS else value


def file_part(text: str) -> str:
    """Return a text as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)


def sheet(
    name: str,
    title: str,
    note: str,
    heads: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    numeric: Iterable[str] = (),
) -> Sheet:
    """Return a table of rows by key; `heads` says which keys are shown, and under which words."""
    return Sheet(
        name,
        title,
        note,
        list(heads.values()),
        [[row.get(key, "") for key in heads] for row in rows],
        frozenset(heads[key] for key in numeric),
    )
