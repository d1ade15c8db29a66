"""The reference says all that the code says: every verb, setting, method and column, and each has words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
import typer
from pydantic import BaseModel

from tis_ray import cli
from tis_ray.config import Config
from tis_ray.data.rows import RejectReason
from tis_ray.finished.choices import EXPLAINED
from tis_ray.stages.ordering_artifact import ORDERED
from tis_ray.study.catalogue import KINDS
from website.columns import TABLES, columns_page, docstrings
from website.commands import commands_page
from website.methods import methods_page
from website.settings import settings_page


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _sections(field.annotation)
    for part in get_args(annotation):
        yield from _sections(part)


def test_every_verb_with_every_option() -> None:
    program: Any = typer.main.get_command(cli.app)
    page = commands_page()
    for name, verb in program.commands.items():
        text = page.split(f"## `tis-ray {name}`\n")[1].split("\n## ")[0]
        for parameter in verb.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option in text, f"{name} {option}"


def test_every_field_of_every_section() -> None:
    page = settings_page()
    for section in set(_sections(Config)):
        table = page.split(f"{{ #{section.__name__.lower()} }}")[1].split("\n## ")[0]
        for name, field in section.model_fields.items():
            assert f"{field.alias or name}` |" in table, f"{section.__name__}.{name}"


def test_every_method() -> None:
    page = methods_page()
    for _, _, methods in KINDS:
        for name in methods.own:
            assert f"| `{name}` |" in page


def test_every_column_has_words() -> None:
    page = columns_page()
    for title, _, columns in TABLES:
        for name, column in columns.items():
            assert column.about, f"{title}: {name}"
            assert f"| `{name}` |" in page


def test_every_reason_of_the_quarantine_has_words() -> None:
    assert set(docstrings(RejectReason)) == {reason.name for reason in RejectReason}


@pytest.mark.slow
@pytest.mark.ray
def test_the_columns_are_those_of_the_files(undisturbed: Path, tmp_path: Path) -> None:
    from tis_ray.config import load_config
    from tis_ray.finished.explain_all import explain_orderings

    (ordering,) = undisturbed.glob("runs/small/orderings/*/ordering.parquet")
    found = pq.read_schema(ordering)
    assert {name: column.type for name, column in ORDERED.items()} == dict(
        zip(found.names, found.types, strict=True)
    )
    config = load_config(undisturbed / "runs" / "small" / "config.yaml")
    (explained,) = explain_orderings(config, tmp_path)
    added = {name for name in explained.table.column_names if not name.startswith("checkpoint_")}
    known = {name for name in EXPLAINED if not name.startswith("checkpoint_")}
    assert added == (set(ORDERED) - {"index", "query"}) | known
    for name, column in EXPLAINED.items():
        assert explained.table.schema.field(name).type == column.type, name
