"""The terminal while a run goes on: what is ours stays on it, what C++ code writes goes to the run's log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tis_ray.cli.options import say
from tis_ray.errors import FailedError, user_message

if TYPE_CHECKING:
    from tis_ray.config import Config


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
def quiet_terminal(log: Path) -> Iterator[None]:
    """Let file descriptor 2, which libraries and processes of Ray's write to, be the file `log`.

    `sys.stderr` goes on writing to the terminal. Where it does not write to descriptor 2 (a notebook, a
    test), all stays as it is.
    """
    if not _writes_to_2():
        yield
        return
    from tis_ray.store import appending

    terminal = os.dup(2)
    before = sys.stderr
    with appending(log) as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, errors="backslashreplace")
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        ours, sys.stderr = sys.stderr, before
        ours.close()


def _writes_to_2() -> bool:
    try:
        return sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False
