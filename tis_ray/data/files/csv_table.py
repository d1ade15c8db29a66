"""CSV and TSV files: a header, then a record a row; every cell is text, and an empty one is absent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from tis_ray.data.files.columns import check_columns
from tis_ray.data.files.opened import opened, readable
from tis_ray.data.files.row_file import Columns, RowFile
from tis_ray.data.rows import Record, RejectReason, UnusableError
from tis_ray.errors import InputError

_LONGEST = 2**31 - 1
"""Characters of a cell; by itself the parser refuses more than 131,072."""


def csv_records(row_file: RowFile, columns: Columns | None) -> Iterator[Record]:
    """Yield a record for each row, with the line on which it begins; blank lines are skipped.

    Raises InputError where the file cannot be split into rows: no header, a quote that never closes.
    """
    path = row_file.path
    csv.field_size_limit(_LONGEST)
    delimiter = "\t" if row_file.kind == ".tsv" else ","
    with readable(path), opened(path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        begin = 1
        header: list[str] | None = None
        while True:
            broken = None
            try:
                cells = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                if "unexpected end" in str(error) or header is None:
                    raise InputError(
                        f"{path}: line {begin}: cannot be split into cells ({error}); close the quote "
                        "that opens there, or double it"
                    ) from None
                cells, broken = [], UnusableError(RejectReason.WRONG_TYPE, f"row: {error}")
            line, begin = begin, rows.line_num + 1
            if not cells and broken is None:
                continue
            if header is None:
                header = _header(cells)
                check_columns(path, header, columns)
                continue
            if broken is None and len(cells) != len(header):
                detail = f"row: has {len(cells)} cells, the header {len(header)}"
                broken = UnusableError(RejectReason.WRONG_TYPE, detail)
            if broken is not None:
                yield row_file.record(line, None, broken)
                continue
            values = cells if columns is None else [cell or None for cell in cells]
            yield row_file.record(line, dict(zip(header, values, strict=True)))


def _header(cells: list[str]) -> list[str]:
    """Return the names of the columns; several without one, as spreadsheets leave, are numbered."""
    names = [cell.strip() for cell in cells]
    if names.count("") < 2:
        return names
    return [name or f"column {number}" for number, name in enumerate(names, 1)]
