"""What every verb uses: the program, its options, and how it prints. Imports next to nothing of the package."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tis_ray.errors import InputError
from tis_ray.log.json_lines import stderr_console
from tis_ray.version import __version__

if TYPE_CHECKING:
    from tis_ray.config import Config
    from tis_ray.storage import Place

app = typer.Typer(
    name="tis-ray",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Choose fine-tuning data for your task, and prove that the choice was worth it.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            help="Print the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Stand before every verb."""


# A pipe has no width; 110 columns hold the tables.
console = stderr_console(None if sys.stderr.isatty() else 110)


def as_place(text: str) -> Path:
    """Return what an argument names: a path, or a folder or file in a bucket by its URI."""
    from tis_ray.storage import place

    return cast(Path, place(text))  # the program reads an argument's kind from `Path`


PLACE: dict[str, Any] = {"parser": as_place, "metavar": "PATH"}
"""What reads an option or argument as a place."""

ConfigFile = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        **PLACE,
        help="YAML file of the study, or its run folder.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: `--set budget=500 --set less.seed=1`."),
]


def load(config: Path, overrides: list[str] | None) -> Config:
    """Read a config file, or the one that a run has left in its folder; then the program goes where it ran.

    Verbs do this before they import Ray, which takes seconds.
    """
    from tis_ray.config import load_config

    return load_run(config, overrides) if config.is_dir() else load_config(config, overrides)


def load_run(run: Path, overrides: list[str] | None = None) -> Config:
    """Read the config of a run's folder. Its relative paths start where it was run, so the program goes there."""
    from tis_ray.config import load_run as read

    loaded, home = read(run, overrides)
    os.chdir(home)
    return loaded


@contextmanager
def writing(option: str, to: Path | Place | None) -> Iterator[None]:
    """Make one line of what the system says of a file or folder that an option names for output, if it does."""
    try:
        yield
    except OSError as error:
        if not isinstance(to, Path) or not isinstance(error.filename, str):
            raise
        there, asked = Path(error.filename).absolute(), to.absolute()
        if (
            there.parent != asked.parent
            and not there.is_relative_to(asked)
            and there not in asked.parents
        ):
            raise
        reason = (error.strerror or "it failed").lower()
        raise InputError(
            f"{option}: {to} cannot be written ({reason}); give another place"
        ) from None


def say(line: str) -> None:
    """Print a line about the work as it is: paths are neither wrapped nor coloured."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)
