"""A table that shows itself in a notebook, and becomes whatever one works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tis_ray.config.problems import not_among
from tis_ray.data.shown_text import one_line
from tis_ray.errors import InputError
from tis_ray.report.html import html_of

if TYPE_CHECKING:
    import datasets
    import pandas

SHOWN = 10
"""Rows that are shown, unless a table says otherwise."""
LONGEST = 120
"""Characters of a shown value."""


class Table:
    """Columns of equal length with a title.

    texts: what people see in place of the values of some columns, a text for each row.
    hidden: columns that are there and not shown.
    shown: the most rows that are shown.
    """

    def __init__(
        self,
        arrow: pa.Table,
        title: str,
        texts: Mapping[str, Sequence[str]] | None = None,
        hidden: Sequence[str] = (),
        shown: int = SHOWN,
    ) -> None:
        self.arrow, self.title = arrow, title
        self._texts, self._hidden, self._rows = dict(texts or {}), set(hidden), shown

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.arrow.num_rows)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.arrow.column_names)

    def __getitem__(self, column: str) -> list[Any]:
        """Return the values of a column. Raises InputError where there is none of this name."""
        if not isinstance(column, str):
            raise TypeError("table[...] takes the name of a column; `.arrow[:10]` has rows")
        if column not in self.columns:
            raise InputError(not_among(self.title, column, self.columns))
        values: list[Any] = self.arrow[column].to_pylist()
        return values

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        return iter(self.arrow.to_pylist())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Hand the table to any library that reads Arrow (polars, duckdb, pandas) without a copy."""
        return self.arrow.__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame."""
        frame: pandas.DataFrame = self.arrow.to_pandas()
        return frame

    def to_dataset(self) -> datasets.Dataset:
        """Return a data set of Hugging Face. Raises InputError where `datasets` is not installed."""
        try:
            import datasets
        except ImportError:
            raise InputError(
                "to_dataset: the `datasets` package is not installed; `pip install datasets`"
            ) from None
        return datasets.Dataset(self.arrow.combine_chunks())

    def __repr__(self) -> str:
        """Return the title and the first rows as text."""
        names, rows = self._shown()
        widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in (names, *rows)
        ]
        return "\n".join([self.title, *lines, *filter(None, [self._more()])])

    def _repr_html_(self) -> str:
        names, rows = self._shown()
        numeric = {f.name for f in self.arrow.schema if _is_number(f.type)}
        pairs = [list(zip(names, row, strict=True)) for row in rows]
        content = {"title": self.title, "names": names, "numeric": numeric, "rows": pairs}
        return html_of("table.html.j2", {**content, "more": self._more()})

    def _shown(self) -> tuple[list[str], list[list[str]]]:
        """Return the names of the columns that are shown, and the texts of the first rows."""
        names = [name for name in self.arrow.column_names if name not in self._hidden]
        columns = [
            self._texts[name][: self._rows]
            if name in self._texts
            else [_text(value) for value in self.arrow[name][: self._rows].to_pylist()]
            for name in names
        ]
        return names, [list(row) for row in zip(*columns, strict=True)]

    def _more(self) -> str:
        if len(self) <= self._rows:
            return ""
        return f"{len(self):,} rows, the first {self._rows} are shown"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _text(value: object) -> str:
    """Return a value in one line."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return one_line(str(value), LONGEST)
