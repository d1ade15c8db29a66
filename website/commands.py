"""The reference of the command line, from the program itself."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.cli import get_docs_for_click

from tis_ray import cli

INTRODUCTION = """# Commands

This page is made from the program when the site is built; `tis-ray --help` and `tis-ray VERB --help` say the same.
`--set` overrides any of the [settings](settings.md) and may be repeated. Exit codes: [Run, watch, stop](../running.md#when-something-fails).

"""


def commands_page() -> str:
    """Return the page of all verbs, with their options and examples."""
    program: Any = typer.main.get_command(cli.app)
    made = get_docs_for_click(obj=program, ctx=typer.Context(program), name="tis-ray")
    verbs = made[made.index("\n## ") :]
    examples = re.sub(r"^Example: (.*)$", r"```bash\n\1\n```", verbs, flags=re.MULTILINE)
    return INTRODUCTION + examples.strip() + "\n"
