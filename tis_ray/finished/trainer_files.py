"""A choice as the file that a trainer loads, with the stanza of its settings beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from tis_ray.config import Config
from tis_ray.data import Row
from tis_ray.data.forms import Form, Formed, Setting, formed
from tis_ray.data.forms.form import PLAIN_TEXT
from tis_ray.data.forms.llamafactory import dataset_info
from tis_ray.data.originals import json_of_any
from tis_ray.data.trainer_template import trainer_template
from tis_ray.errors import InputError
from tis_ray.finished.subset import COLUMN, Choice
from tis_ray.storage import Place, listed, place
from tis_ray.store import read_json, write_json, write_lines, write_text
from tis_ray.store.sides import row_dicts

DATASET_INFO = "dataset_info.json"
"""LLaMA-Factory's list of data sets, in the folder of their files."""


def write_form(choice: Choice, form: Form, path: Place, config: Config) -> list[Place]:
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
            f"rank {place + 1} ({file}, line {line}): {unsaid[place]}; take another form, or leave such rows "
            "out (`constraints.exclude`)"
        )
    written = [path]
    if form.name == "llamafactory":
        written.append(_listed(path, rows))
    write_lines(path, map(json_of_any, _noted(choice, rows) if form.noted else rows.rows))
    if form.stanza is not None:
        template = _template_beside(path, config) if rows.layout != PLAIN_TEXT else None
        written += [] if template is None else [template]
        setting = Setting(
            str(path),
            path.stem,
            model_folder(config),
            config.data.max_length,
            None if template is None else str(template),
        )
        beside = path.with_name(f"{path.stem}.{form.name}{form.ending}")
        write_text(beside, form.stanza(setting, rows))
        written.append(beside)
    return written


def model_folder(config: Config) -> str:
    """Return what another program loads a study's model by."""
    if config.model.name == "builtin":
        from tis_ray.models import builtin

        return str(builtin.PATH)
    path = place(config.model.name).expanduser()
    return str(path.absolute()) if path.exists() else config.model.name


def _template_beside(path: Place, config: Config) -> Place | None:
    """Write the study's template beside a file of rows, unless it is the tokenizer's own."""
    text = trainer_template(config.data.template, place(model_folder(config)))
    if text is None:
        return None
    beside = path.with_name(f"{path.stem}.jinja")
    write_text(beside, text)
    return beside


def chosen_rows(choice: Choice) -> list[Row]:
    """Return the rows of a choice as the study read them, best first."""
    wanted = choice.table["index"].to_pylist()
    found = {
        row["row"]: cast(Row, row)
        for path in listed(choice.ordered.rows_of("pool"), "rows-*.parquet")
        for row in row_dicts(path, set(wanted))
    }
    return [found[row] for row in wanted]


def _noted(choice: Choice, rows: Formed) -> Iterator[dict[str, object]]:
    for fields, note in zip(rows.rows, choice.notes(), strict=True):
        yield {**fields, "id": note["id"], "source": note["source"], COLUMN: note}


def _listed(path: Place, rows: Formed) -> Place:
    """Add a file to the list of data sets in its folder; the others stay."""
    listed, entry = path.with_name(DATASET_INFO), dataset_info(path.stem, path.name, rows)
    known: dict[str, dict[str, object]] = read_json(listed) if listed.exists() else {}
    own = known.get(path.stem, entry[path.stem])
    if not isinstance(own, dict) or own.get("file_name") != path.name:
        raise InputError(
            f"{listed}: has another data set named {path.stem}; give another name or folder"
        )
    write_json(listed, {**known, **entry})
    return listed
