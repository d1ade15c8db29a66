"""The commands that the cluster pages show: each is one that exists, with options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from ray.dashboard.modules.job.cli import job_cli_group
from ray.scripts.scripts import start

from tis_ray import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/cluster.md", ROOT / "cluster/README.md"]


def commands(program: str) -> list[list[str]]:
    """Return the words of each command of `program` in the pages' code blocks, without comments."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.M | re.S)
    ]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[:1] == [program]]


def parse(command: Any, name: str, arguments: list[str]) -> None:
    command.make_context(name, list(arguments))


def test_every_command_of_ours_parses() -> None:
    ours: Any = typer.main.get_command(cli.app)
    found = commands("tis-ray")
    assert found
    for _, verb, *arguments in found:
        parse(ours.commands[verb], verb, arguments)


def test_every_command_of_ray_parses_and_its_job_is_one_of_ours() -> None:
    ours: Any = typer.main.get_command(cli.app)
    starts = [line[2:] for line in commands("ray") if line[1] == "start"]
    jobs = [line[3:] for line in commands("ray") if line[1:3] == ["job", "submit"]]
    assert len(starts) == 2
    assert len(jobs) == 1
    for arguments in starts:
        parse(start, "start", arguments)
    parse(job_cli_group.commands["submit"], "submit", jobs[0])
    python, option, module, verb, *arguments = jobs[0][jobs[0].index("--") + 1 :]
    assert (python, option, module) == ("python", "-m", cli.__name__)
    parse(ours.commands[verb], verb, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_files_that_the_pages_name_exist(page: Path) -> None:
    named = re.findall(r"`((?:cluster|examples|tests|kuberay|docker)/[^` ]*)`", page.read_text())
    named += re.findall(r"(?:-f|--config) ((?:cluster|examples)/\S+)", page.read_text())
    base = ROOT if page.parent.name == "docs" else page.parent
    assert named
    for name in named:
        assert (base / name).exists() or (ROOT / name).exists(), name
