"""The whole program: a verb runs, and whatever went wrong becomes a line and an exit code."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from tis_ray.cli.options import app, console, say
from tis_ray.errors import FailedError, user_message

CTRL_C = 130  # the code that newer versions of typer return; older ones raise Abort


def main() -> None:
    """Run the verb that the command line names, and exit."""
    from tis_ray.distributed.quiet import quiet_ray

    try:
        with quiet_ray():
            # Without standalone mode typer returns the code of `typer.Exit` instead of exiting.
            code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = CTRL_C
    except Exception as error:
        code = _failed(error)
    if code == CTRL_C:
        say("stopped; the same command continues")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _failed(error: Exception) -> int:
    # Wrong arguments. By its looks: some versions of typer bring their own copy of click's errors.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        if error.format_message():  # empty when only the help was asked for
            _complain("error", error.format_message())
        return 2
    if isinstance(error, FailedError):
        for line in str(error).splitlines():
            _complain("failed", line)
        return 1
    message = user_message(error)
    if message is not None:  # bad input, perhaps found by a worker and wrapped by Ray
        _complain("error", message)
        return 2
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ImportError) and package not in ("", "tis_ray"):
        reason = " ".join(str(error).split())
        _complain(
            "failed",
            f"{package} cannot be imported ({reason}); `tis-ray doctor` says what is missing",
        )
        return 1
    console.print_exception(max_frames=8)
    return 1


def _complain(kind: str, message: str) -> None:
    console.print(f"[red]{kind}:[/red] {escape(message)}", soft_wrap=True, highlight=False)
