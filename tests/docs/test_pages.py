"""Every command, config and line of Python in the pages runs, in order, in a folder of its own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from ray.dashboard.modules.job.cli import job_cli_group
from ray.scripts.scripts import cli as ray_cli

from tests.docs.blocks import PAGES, ROOT, Page, commands, page_of, read_page
from tests.docs.conftest import follow
from tis_ray import cli
from website.commands import commands_page

KNOWN = {"bash", "python", "yaml", "toml", "json", "text", "jinja"}
READ = [read_page(path) for path in PAGES]
COMMANDS = page_of(Path("reference/commands.md"), commands_page())
RAY = {"ray", "selected", "finished"}


def _marked(page: Page) -> Any:
    """Return a page for a test; one whose commands start Ray is slow, and one that says so."""
    marks = [pytest.mark.ray] if page.needs & RAY else []
    if page.needs & (RAY | {"time"}):
        marks += [pytest.mark.slow, pytest.mark.timeout(900)]
    return pytest.param(page, id=page.name, marks=marks)


@pytest.mark.parametrize("page", [_marked(page) for page in READ])
def test_what_the_page_says_works(page: Page, fresh: Callable[[Page], Path]) -> None:
    follow(page, fresh(page))


@pytest.mark.parametrize("page", [*READ, COMMANDS], ids=lambda page: page.name)
def test_every_command_of_ours_parses(page: Page) -> None:
    """Read each by the program's own parser, those too that cannot run here."""
    program: Any = typer.main.get_command(cli.app)
    for block in page.blocks:
        for words in commands(block) if block.language == "bash" else ():
            if words[0] == "tis-ray" and len(words) > 1 and not words[1].startswith("-"):
                program.commands[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_every_command_of_ray_parses_and_its_job_is_ours(page: Page) -> None:
    program: Any = typer.main.get_command(cli.app)
    for block in page.blocks:
        for words in commands(block) if block.language == "bash" else ():
            if words[:3] == ["ray", "job", "submit"]:
                job_cli_group.commands["submit"].make_context("submit", words[3:])
                python, job, *rest = words[words.index("--") + 1 :]
                assert python == "python"
                assert (ROOT / job).is_file()
                program.commands[Path(job).stem].make_context(Path(job).stem, rest)
            elif words[0] == "sbatch":
                script = words.index("cluster/slurm.sh")
                verb, *rest = words[script + 1 :]
                program.commands[verb].make_context(verb, rest)
            elif words[0] == "ray":
                ray_cli.commands[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Page) -> None:
    """So that none escapes the tests above: its language is known, and what cannot run has a reason."""
    for block in page.blocks:
        assert block.language in KNOWN, f"{block.name}: {block.language or 'no language'}"
        if block.parsed_only:
            assert block.test is not None
            assert len(block.test.partition(":")[2].split()) > 2, f"{block.name}: why?"
        if block.language == "toml":
            assert tomllib.loads(block.text)
        if block.language == "json":
            json.loads(block.text)


def test_the_commands_that_only_parse_are_few() -> None:
    """They are listed here, so that a new one is a decision."""
    found = {block.page for page in READ for block in page.blocks if block.parsed_only}
    assert found <= {
        "CONTRIBUTING.md",
        "README.md",
        "analyze.md",
        "buckets.md",
        "cluster.md",
        "evaluation.md",
        "monitoring.md",
        "start.md",
        "tracking.md",
    }
