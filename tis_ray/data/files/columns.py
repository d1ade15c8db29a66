"""The columns of a table: named once each, and at least one that rows can be read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tis_ray.data.files.row_file import Columns
from tis_ray.data.schemas import EXPECTED
from tis_ray.data.shown_text import one_line
from tis_ray.errors import InputError
from tis_ray.storage import Place


def check_columns(path: Place, names: Sequence[str], columns: Columns | None) -> None:
    """Raise InputError if two columns have one name, or if none that is needed is there."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{path}: two columns are named {twice[0]!r}; rename or drop one")
    if columns is not None and not any(name in columns.needed for name in names):
        found = one_line(", ".join(names)) or "none"
        raise InputError(
            f"{path}: no column that holds rows; expected {EXPECTED}; found {found}; "
            "`columns:` maps other names"
        )
