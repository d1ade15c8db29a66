"""Columns of the tables that people read, with what each means: schema and reference are one.

The documentation site makes its page of columns from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa


class Column(NamedTuple):
    """The type of a column, and what stands in it."""

    type: pa.DataType
    about: str


def schema_of(columns: Mapping[str, Column]) -> pa.Schema:
    """Return the schema of a table of these columns."""
    return pa.schema([(name, column.type) for name, column in columns.items()])


def struct_of(columns: Mapping[str, Column]) -> pa.StructType:
    """Return the type of a column that holds these as its fields."""
    return pa.struct([(name, column.type) for name, column in columns.items()])
