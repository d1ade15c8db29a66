"""A choice as the file that a trainer loads, with the stanza of its settings beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tis_ray.data import Row
from tis_ray.data.forms import Form, Formed, Setting, formed
from tis_ray.data.forms.llamafactory import dataset_info
from tis_ray.data.originals import json_of_any
from tis_ray.errors import InputError
from tis_ray.finished.subset import COLUMN, Choice
from tis_ray.store import read_json, write_json, write_lines, write_text
from tis_ray.store.sides import row_dicts

DATASET_INFO = "dataset_info.json"
"""LLaMA-Factory's list of data sets, in the folder of their files."""


def write_form(choice: Choice, form: Form, path: Path, model: str, max_length: int) -> list[Path]:
    """Write the rows of a choice in a form, best first, and beside them what the trainer is to be told.

    Returns what was written, the stanza last. Raises InputError, and writes nothing, where the form
    cannot say a row.
    """
    path = path.absolute()
    rows, unsaid = formed(form, chosen_rows(choice))
    if unsaid:
        place = min(unsaid)
        file, line = choice.places[place]
        raise InputError(
            f"--form {form.name}: {len(unsaid)} of {len(choice.places)} rows have no such form; the first is "
            f"rank {place + 1} ({file}, line {line}): {unsaid[place]}"
        )
    written = [path]
    if form.name == "llamafactory":
        written.append(_listed(path, rows))
    write_lines(path, map(json_of_any, _noted(choice, rows) if form.noted else rows.rows))
    if form.stanza is not None:
        beside = path.with_name(f"{path.stem}.{form.name}{form.ending}")
        write_text(beside, form.stanza(Setting(str(path), path.stem, model, max_length), rows))
        written.append(beside)
    return written


def chosen_rows(choice: Choice) -> list[Row]:
    """Return the rows of a choice as the study read them, best first."""
    wanted = choice.table["index"].to_pylist()
    found = {
        row["row"]: cast(Row, row)
        for path in sorted(choice.ordered.rows_of("pool").glob("rows-*.parquet"))
        for row in row_dicts(path, set(wanted))
    }
    return [found[row] for row in wanted]


def _noted(choice: Choice, rows: Formed) -> Iterator[dict[str, object]]:
    for fields, note in zip(rows.rows, choice.notes(), strict=True):
        yield {**fields, "id": note["id"], "source": note["source"], COLUMN: note}


def _listed(path: Path, rows: Formed) -> Path:
    """Add a file to the list of data sets in its folder; the others stay."""
    listed, entry = path.with_name(DATASET_INFO), dataset_info(path.stem, path.name, rows)
    known: dict[str, dict[str, object]] = read_json(listed) if listed.exists() else {}
    own = known.get(path.stem, entry[path.stem])
    if not isinstance(own, dict) or own.get("file_name") != path.name:
        raise InputError(
            f"{listed}: has another data set named {path.stem}; give `--to` another name or folder"
        )
    write_json(listed, {**known, **entry})
    return listed
