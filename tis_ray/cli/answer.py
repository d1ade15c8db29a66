"""What the program answers: it runs a verb, and makes a line and a code of whatever went wrong."""

from __future__ import annotations

import errno
import signal

import typer
from rich.markup import escape

from tis_ray.cli import making, reading, rows  # noqa: F401  the verbs
from tis_ray.cli.options import app, console
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.errors import FailedError, refusal, user_message
from tis_ray.log.json_lines import lines_are_json
from tis_ray.stopping import STOPS, end


def answer() -> int:
    """Run the verb that the command line names; return the exit code: 0 done, 1 failed, 2 bad input."""
    try:
        lines_are_json()  # a form that is not known is bad input
        with quiet_ray():
            # Without standalone mode typer returns the code of `typer.Exit` instead of exiting.
            code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = CTRL_C.code
    except Exception as error:
        return _failed(error)
    if code == CTRL_C.code:  # where signals are not taken: another program's process
        end(CTRL_C)
        console.print(CTRL_C.line)
    return code if isinstance(code, int) else 0


CTRL_C = STOPS[signal.SIGINT]
NO_PLACE = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a path that cannot be what it was given for."""


def _failed(error: Exception) -> int:
    # Wrong arguments. By its looks: some versions of typer bring their own copy of click's errors.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        message = error.format_message()
        if message.startswith("Missing option '--config'"):
            advice = "give a study's YAML file or a run's folder, such as `-c runs/study`"
            message = f"{message.removesuffix('.')}; {advice}"
        if message:  # empty when only the help was asked for
            _complain("error", message)
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
    if (refused := refusal(error)) is not None:
        _complain("failed", "; ".join(refused))
        return 1
    if isinstance(error, OSError) and error.errno in NO_PLACE and error.filename:
        _complain("error", f"{error.filename}: {(error.strerror or 'cannot be written').lower()}")
        return 2
    console.print_exception(max_frames=8)
    return 1


def _complain(kind: str, message: str) -> None:
    console.print(f"[red]{kind}:[/red] {escape(message)}", soft_wrap=True, highlight=False)
