"""Errors that are shown as plain lines: bad input, work that failed, and what the system refused."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import NamedTuple


class InputError(ValueError):
    """Bad input from the user.

    The message is one line that names the file or field, says what was found and what to do.
    The command line prints it without a traceback and ends with exit code 2.
    """


class FailedError(RuntimeError):
    """Work failed, though the input was good.

    The message is a line for each thing that failed. The command line prints it without a traceback
    and ends with exit code 1.
    """


def user_message(error: BaseException) -> str | None:
    """Return the message of the InputError that `error` is or wraps, or None."""
    for current in causes(error):
        if isinstance(current, InputError):
            # A wrapper that inherits from InputError carries a traceback in its own text.
            inner = getattr(current, "cause", None)
            return str(inner) if isinstance(inner, InputError) else str(current)
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it wraps or was raised from, each once.

    A worker's exception comes back wrapped by the cluster: as `cause`, as `__cause__`, or as one
    of a trainer's `worker_failures`.
    """
    seen: list[BaseException] = []
    stack = [error]
    while stack:
        current = stack.pop()
        if any(current is other for other in seen):
            continue
        yield current
        seen.append(current)
        linked = [current.__cause__, current.__context__, getattr(current, "cause", None)]
        linked += list(getattr(current, "worker_failures", {}).values())
        stack += [e for e in linked if isinstance(e, BaseException)]


ELSEWHERE = "set `artifacts` and `runs` to folders on another disk"
_REFUSALS = (
    (
        errno.ENOSPC,
        ("No space left on device", "database or disk is full"),
        ("the disk is full", f"free some space, or {ELSEWHERE}"),
    ),
    (
        errno.EDQUOT,
        ("Disk quota exceeded",),
        ("the disk quota is used up", f"free some space, or {ELSEWHERE}"),
    ),
    (
        errno.EFBIG,
        ("File too large",),
        ("a file may not grow that large", "raise the limit (`ulimit -f`)"),
    ),
    (
        errno.EROFS,
        ("Read-only file system", "readonly database"),
        ("the folder is read-only", ELSEWHERE),
    ),
    (
        errno.EACCES,
        ("Permission denied",),
        ("this user may not do that there", f"change the owner, or {ELSEWHERE}"),
    ),
    (
        errno.EMFILE,
        ("Too many open files",),
        ("too many files are open", "raise the limit (`ulimit -n`)"),
    ),
    (
        errno.EIO,
        ("Input/output error", "Stale file handle"),
        ("the disk or the network folder failed", "check it"),
    ),
)
"""What the system refuses: its number, how libraries that drop the number spell it, what it means, what to do."""


class Refusal(NamedTuple):
    """What the system refused, and where; and what to do about it."""

    what: str
    advice: str


def refusal(error: BaseException) -> Refusal | None:
    """Return what the system refused to read or write; None for other errors.

    Errors of libraries and of workers count too, by their text.
    """
    for current in causes(error):
        own = current.errno if isinstance(current, OSError) else None
        text = str(current)
        for number, spellings, (meaning, advice) in _REFUSALS:
            if own == number or (own is None and any(said in text for said in spellings)):
                where = getattr(current, "filename", None) or re.sub(
                    r"^[\w.]+: ", "", _last_line(text)
                )
                return Refusal(f"{where}: {meaning}", advice)
    return None


def failure_line(error: BaseException) -> str:
    """Return what failed in one line; for what nobody foresaw, its type, its message and its place."""
    known = user_message(error) or (str(error) if isinstance(error, FailedError) else None)
    if known is None:
        refused = refusal(error)
        known = "; ".join(refused) if refused else _unforeseen(error)
    return " ".join(known.split())


def _unforeseen(error: BaseException) -> str:
    """Return the innermost error, its own message, and the line of code that raised it."""
    inner = next((one for one in causes(error) if _is_innermost(one)), error)
    steps = inner.__traceback__
    place = ""
    while steps is not None:
        code = steps.tb_frame.f_code
        place = f" ({code.co_filename}, line {steps.tb_lineno}, in {code.co_name})"
        steps = steps.tb_next
    return f"{type(inner).__name__}: {_last_line(str(inner)) or 'no message'}{place}"


def _is_innermost(error: BaseException) -> bool:
    wrapped = (getattr(error, "cause", None), *getattr(error, "worker_failures", {}).values())
    return not any(isinstance(one, BaseException) for one in wrapped)


def _last_line(text: str) -> str:
    """Return the last line of a message, which of a worker's traceback is the error itself."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""
