"""Settings and commands that stand in the sentences of a page exist, too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

from tests.docs.blocks import PAGES, inline_code
from tis_ray import cli
from tis_ray.config import Config

SETTING = re.compile(r"([a-z_0-9]+(?:\.[a-z_0-9]+)+)(?:[:=].*)?")
SECTIONS = {
    name for name, field in Config.model_fields.items() if name not in ("given", "settings")
}
FILES = (".md", ".parquet", ".jsonl", ".json", ".yaml", ".npy", ".py", ".html", ".csv")


def _has(annotation: Any, path: list[str]) -> bool:
    """Whether a field of this type has an inner one of this path."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = {f.alias or name: f for name, f in annotation.model_fields.items()}.get(path[0])
        return field is not None and (len(path) == 1 or _has(field.annotation, path[1:]))
    return any(_has(part, path) for part in get_args(annotation))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_settings_in_sentences_are_known(path: Path) -> None:
    for code in sorted(inline_code(path.read_text())):
        found = SETTING.fullmatch(code)
        if found and not found[1].endswith(FILES) and found[1].split(".")[0] in SECTIONS:
            assert _has(Config, found[1].split(".")), f"{path.name}: `{code}`"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_in_sentences_are_known(path: Path) -> None:
    program: Any = typer.main.get_command(cli.app)
    for code in sorted(inline_code(path.read_text())):
        words = code.split()
        if words[:1] != ["tis-ray"] or len(words) < 2 or words[1].startswith("-"):
            continue
        if words[1] == "VERB":
            continue
        verb = program.commands[words[1]]
        known = {option for parameter in verb.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= known, f"{path.name}: `{code}`"


def test_a_setting_that_is_not_there_is_noticed() -> None:
    assert _has(Config, ["less", "warmup", "share"])
    assert not _has(Config, ["less", "warmup", "shares"])
