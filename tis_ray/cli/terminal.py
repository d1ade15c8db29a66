"""The terminal while a run goes on: what is ours stays on it, what C++ code writes goes to the run's log."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape

from tis_ray.cli.options import console, say
from tis_ray.errors import FailedError, user_message

if TYPE_CHECKING:
    from tis_ray.config import Config
    from tis_ray.storage import Place


@contextmanager
def studying(config: Config) -> Iterator[None]:
    """Say at once what is going to run, keep the terminal ours, and make a line of whatever fails.

    Raises FailedError for what nobody foresaw; its traceback is in the run's log.
    """
    from tis_ray.config import plan, together

    folder = together(config) or next(iter(plan(config).values())).run_dir
    say(f"{config.name}: {folder}")
    try:
        with quiet_terminal(folder / "run.log"):
            yield
    except ImportError:  # of a package that is missing; its line is the same for every verb
        raise
    except Exception as error:
        if isinstance(error, FailedError) or user_message(error) is not None:
            raise
        from tis_ray.study.result import failure

        raise FailedError(failure(error, folder)) from error


@contextmanager
def quiet_terminal(log: Place) -> Iterator[None]:
    """Let standard output and error be the file `log`, and the terminal the console's alone.

    What libraries and processes of Ray's print, in Python or in C++, goes to the file; warnings of ours
    are lines on the console. Where they are not file descriptors 1 and 2 (a notebook, a test), all stays as it is.
    """
    if not _are_descriptors():
        yield
        return
    from tis_ray.log.descriptors import descriptors_to
    from tis_ray.log.json_lines import as_asked

    warnings = _Warnings(logging.WARNING)
    terminal = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    with terminal, descriptors_to(log):
        console.file = as_asked(terminal)
        logging.getLogger("tis_ray").addHandler(warnings)
        try:
            yield
        finally:
            logging.getLogger("tis_ray").removeHandler(warnings)
            console.file = as_asked(sys.stderr)


class _Warnings(logging.Handler):
    """Prints what the package warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(
            f"[yellow]warning:[/yellow] {escape(record.getMessage())}",
            highlight=False,
            soft_wrap=True,
        )


def _are_descriptors() -> bool:
    try:
        return (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
    except (AttributeError, OSError, ValueError):
        return False
