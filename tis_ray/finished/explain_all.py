"""All selected rows of a run's orderings, with what is known of each, as tables in files and on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from tis_ray.analysis.margins import NEAR
from tis_ray.config import Config, plan, together
from tis_ray.data.shown_text import one_line
from tis_ray.finished.choices import explained
from tis_ray.finished.explain import damage_explained
from tis_ray.finished.lineage import has_orderings, lineages
from tis_ray.finished.stored_rows import StoredRows, first_words, whole_text
from tis_ray.storage import Place
from tis_ray.store import write_csv, write_parquet

_NUMBERS = ("rank", "score", "margin", "duplicates")
_WORDS = ("id", "query_id", "begins")
_FOR_NUMBERS = 48
"""Columns of the screen that numbers and the space between columns take."""
_FIRST = 10
"""Rows that are shown."""


@dataclass(frozen=True)
class ExplainedOrdering:
    """An ordering with all that is known of its rows, and the file that it was written to.

    begins: the first words of the first rows.
    """

    study: str
    method: str
    table: pa.Table
    path: Place
    begins: list[str]

    def to_json(self) -> dict[str, object]:
        """Return names, files and rows as plain values."""
        csv = str(self.path.with_suffix(".csv"))
        named = {"study": self.study, "method": self.method, "parquet": str(self.path), "csv": csv}
        return {**named, "rows": self.table.to_pylist()}


def explain_orderings(
    config: Config, out: Place | None = None, near: float = NEAR
) -> Iterator[ExplainedOrdering]:
    """Yield each ordering of the studies of a file, once it is written.

    Each table (see `tis_ray.finished.choices.explained`, with ranks from 1, and the texts of row and
    query) is written as .parquet and as .csv into `out`, by default `explain/` in the run's folder. Of
    several studies each has its own folder in `out`.
    """
    studies = plan(config)
    ready = {n: study for n, study in studies.items() if has_orderings(study.run_dir)} or studies
    for name, study in ready.items():
        folder = study.run_dir / "explain"
        if out is not None:
            folder = out / name if together(config) else out
        for lineage in lineages(study.run_dir):
            with damage_explained():
                table = explained(lineage, near)
            begins: list[str] = []
            if lineage.pool is not None:
                numbers = lineage.table["index"].to_pylist()
                first = lineage.pool.read(numbers[:_FIRST])
                begins = [first_words(first[number], 200) for number in numbers[:_FIRST]]
                table = table.append_column("text", _texts(lineage.pool, numbers))
            if lineage.query is not None:
                asked = _texts(lineage.query, lineage.table["query"].to_pylist())
                table = table.append_column("query_text", asked)
            path = folder / f"{lineage.method}.parquet"
            write_parquet(path, table)
            write_csv(path.with_suffix(".csv"), table)
            yield ExplainedOrdering(name, lineage.method, table, path, begins)


def not_selected(config: Config) -> list[str]:
    """Return the names of a file's studies that have no ordering yet."""
    return [name for name, study in plan(config).items() if not has_orderings(study.run_dir)]


def first_rows(ordering: ExplainedOrdering, title: str, width: int, most: int = _FIRST) -> Table:
    """Return the first rows of an explained ordering for a screen of so many columns."""
    table = ordering.table
    shown = Table(
        title=Text(f"{title}: first {min(most, table.num_rows)} of {table.num_rows} rows")
    )
    shown.box, shown.title_justify = box.SIMPLE_HEAD, "left"
    rows = table.slice(0, most).to_pylist()
    for row, begins in zip(rows, ordering.begins, strict=False):
        row["begins"] = begins
    columns = [name for name in _NUMBERS + _WORDS if rows and name in rows[0]]
    room = max(12, (width - _FOR_NUMBERS) // len(_WORDS))
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in _WORDS else "right"
        shown.add_column(name, justify=justify, no_wrap=True)
    for row in rows:
        row["begins"] = one_line(row.get("begins") or "", room - 3)
        shown.add_row(*(Text(_cell(row[name], room)) for name in columns))
    return shown


def _cell(value: object, room: int) -> str:
    """Return a value as it is shown; of a long text both ends, since ids differ at theirs."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    text = one_line(str(value), 1000)
    half = (room - 1) // 2
    return text if len(text) <= room else f"{text[: room - 1 - half]}…{text[-half:]}"


def _texts(rows: StoredRows, numbers: list[int]) -> pa.Array:
    """Return what rows say, null for -1, each read and held once."""
    read = rows.read({number for number in numbers if number >= 0})
    texts = {number: whole_text(row) for number, row in read.items()}
    return pa.array([texts.get(number) for number in numbers], pa.string())
