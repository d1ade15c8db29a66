"""Errors that are shown as plain lines: bad input, work that failed, and what the system refused."""

from __future__ import annotations

import errno
from collections.abc import Iterator


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


_REFUSALS = (
    (
        errno.ENOSPC,
        ("No space left on device", "database or disk is full"),
        "the disk is full; free some space, or set `artifacts` and `runs` to folders on another disk",
    ),
    (
        errno.EDQUOT,
        ("Disk quota exceeded",),
        "the disk quota is used up; free some space, or set `artifacts` and `runs` to other folders",
    ),
    (
        errno.EFBIG,
        ("File too large",),
        "a file may not grow that large here; raise the limit (`ulimit -f`), or lower batch.shard_rows",
    ),
    (
        errno.EROFS,
        ("Read-only file system", "readonly database"),
        "the folder is read-only; set `artifacts` and `runs` to folders that can be written",
    ),
    (
        errno.EACCES,
        ("Permission denied",),
        "this user may not write there; change its owner, or set `artifacts` and `runs` to other folders",
    ),
    (
        errno.EMFILE,
        ("Too many open files",),
        "too many files are open; raise the limit (`ulimit -n`), or use fewer actors (compute.actors)",
    ),
    (
        errno.EIO,
        ("Input/output error", "Stale file handle"),
        "the disk or the network folder failed; check it",
    ),
)
"""What the system refuses: its number, how libraries that drop the number spell it, what it means."""


def refusal(error: BaseException) -> str | None:
    """Return where and why the system refused to read or write, and what to do; None for other errors.

    Errors of libraries and of workers count too, by their text.
    """
    for current in causes(error):
        own = current.errno if isinstance(current, OSError) else None
        text = str(current)
        for number, spellings, meaning in _REFUSALS:
            if own == number or (own is None and any(said in text for said in spellings)):
                where = getattr(current, "filename", None)
                return f"{where}: {meaning}" if where else f"{_last_line(text)}: {meaning}"
    return None


def failure_line(error: BaseException) -> str:
    """Return what failed in one line; for what nobody foresaw, its type, its message and its place."""
    known = user_message(error) or (str(error) if isinstance(error, FailedError) else None)
    return " ".join((known or refusal(error) or _unforeseen(error)).split())


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
