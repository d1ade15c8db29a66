"""Subsets as files: the rows as they came and what is known of each, in a file of the pool's own kind."""

from __future__ import annotations

import pyarrow as pa

from tis_ray.data.originals import json_of_any
from tis_ray.finished.subset import Subset
from tis_ray.storage import Place
from tis_ray.store import write_arrow, write_csv, write_lines, write_parquet

KINDS = (".jsonl", ".parquet", ".arrow", ".csv", ".tsv")
"""Ends of the names of files that a subset can be written to."""


def write_original(subset: Subset, path: Place) -> None:
    """Write a subset in the kind that the name of `path` says, atomically.

    In JSON lines each row is the text that it was. In CSV what is known of a row is JSON text, and so are
    lists and objects.
    """
    kind = path.suffix.lower()
    if kind == ".parquet":
        write_parquet(path, subset.table())
    elif kind == ".arrow":
        write_arrow(path, subset.table())
    elif kind in (".csv", ".tsv"):
        notes = pa.array(map(json_of_any, subset.notes), pa.string())
        table = _flat(subset.originals.as_table()).append_column(subset.column, notes)
        write_csv(path, table, "\t" if kind == ".tsv" else ",")
    else:
        write_lines(path, subset.originals.json_lines(subset.column, subset.notes))


def _flat(table: pa.Table) -> pa.Table:
    """Return a table whose nested values are JSON text."""
    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [None if v is None else json_of_any(v) for v in table[place].to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table
