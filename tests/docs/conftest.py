"""Folders in which the commands of a page run: each its own, as the page before has left it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import DOCS, ROOT, Block, Page, read_page
from tis_ray.config import load_config

START, METHOD = DOCS / "start.md", DOCS / "method.md"
BASE = {"data": {"pool": "pool.jsonl", "query": "examples.jsonl", "test": "held_out.jsonl"}}
"""What a fragment of a config leaves out."""


def environment() -> dict[str, str]:
    """Return the environment of a reader's shell: this checkout, and the programs beside this Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def run(block: Block, folder: Path) -> str:
    """Run a block of commands or of Python in a folder; return what it prints, errors included."""
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else ["python", "-c"]
    done = subprocess.run(
        [*program, block.text],
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=280,
    )
    assert done.returncode == 0, f"{block.name} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def follow(page: Page, folder: Path) -> None:
    """Do what a page says, from its first block to its last."""
    printed = ""
    for block in page.blocks:
        if block.title is not None:
            write(block, folder)
        elif block.parsed_only:
            continue
        elif block.language in ("bash", "python"):
            printed = run(block, folder)
        elif block.test == "output":
            assert_printed(block, printed)
        elif block.language == "yaml":
            check_fragment(block, folder)


def write(block: Block, folder: Path) -> None:
    """Write a block that is a file."""
    assert block.title is not None
    path = folder / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)


def assert_printed(block: Block, printed: str) -> None:
    """Look for the lines of a block in what was printed, in order; numbers and spaces may differ.

    `...` stands for any lines, and within a line for any words.
    """
    lines = [_shape(line) for line in printed.splitlines()]
    at = 0
    for line in block.text.splitlines():
        if line.strip() == "...":
            continue
        parts = [re.escape(_shape(part)) for part in line.split("...")]
        wanted = re.compile(".*".join(parts))
        found = next((n for n in range(at, len(lines)) if wanted.search(lines[n])), None)
        assert found is not None, f"{block.name}: no line like {line!r} in:\n{printed}"
        at = found + 1


def _shape(line: str) -> str:
    """Return a line with its numbers and the spaces between words made equal."""
    return " ".join(re.sub(r"[-+−]?\d[\d,.]*", "#", line).split())


def check_fragment(block: Block, folder: Path) -> None:
    """Read a part of a config as the program does, with what it leaves out filled in."""
    values = yaml.safe_load(block.text)
    assert isinstance(values, dict), f"{block.name} is no part of a config"
    whole = {"budget": 10, **BASE, **values}
    if "tasks" in values:
        whole["data"] = {"pool": BASE["data"]["pool"]}
    elif "data" in values:
        whole["data"] = {**BASE["data"], **values["data"]}
    path = folder / "fragment.yaml"
    path.write_text(yaml.safe_dump(whole))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        load_config(path)


@pytest.fixture(scope="session")
def left(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder that a page needs, made once: with `files`, after `select`, or after `run`."""
    made: dict[str, Path] = {}

    def folder(needed: str) -> Path:
        if needed not in made:
            made[needed] = make(needed, tmp_path_factory.mktemp(needed))
        return made[needed]

    def make(needed: str, into: Path) -> Path:
        if needed == "files":
            for block in read_page(START).blocks:
                if block.title is not None:
                    write(block, into)
            run(Block(START.name, 0, "bash", "python rows.py"), into)
        elif needed == "selected":
            follow(read_page(START), into)
        else:
            shutil.copytree(folder("selected"), into, symlinks=True, dirs_exist_ok=True)
            follow(read_page(METHOD), into)
        return into

    return folder


@pytest.fixture
def fresh(left: Callable[[str], Path], tmp_path: Path) -> Callable[[Page], Path]:
    """A folder of its own for a page, as the page that it begins with has left it."""

    def folder(page: Page) -> Path:
        for needed in page.needs & {"files", "selected", "finished"}:
            shutil.copytree(left(needed), tmp_path, symlinks=True, dirs_exist_ok=True)
        return tmp_path

    return folder
