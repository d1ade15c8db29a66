"""Files of rows: which ones a path stands for, and the records in each kind of file."""

from __future__ import annotations

from collections.abc import Iterator

from tis_ray.data.files.arrow_tables import arrow_records, parquet_records, without_nulls
from tis_ray.data.files.csv_table import csv_records
from tis_ray.data.files.found import Found, common_root, found, named_files, read_twice, short_names
from tis_ray.data.files.json_array import json_records
from tis_ray.data.files.json_lines import line_records
from tis_ray.data.files.row_file import KINDS, Columns, RowFile
from tis_ray.data.rows import Record

__all__ = [
    "KINDS",
    "Columns",
    "Found",
    "RowFile",
    "common_root",
    "file_records",
    "found",
    "named_files",
    "read_twice",
    "short_names",
    "without_nulls",
]


def file_records(file: RowFile, columns: Columns | None = None) -> Iterator[Record]:
    """Yield the records of a file, in order.

    columns: which of a table are read; None for all of them, exactly as they are.
    """
    match file.kind:
        case ".jsonl" | ".ndjson":
            return line_records(file)
        case ".json":
            return json_records(file)
        case ".csv" | ".tsv":
            return csv_records(file, columns)
        case ".parquet":
            return parquet_records(file, columns)
        case _:
            return arrow_records(file, columns)
