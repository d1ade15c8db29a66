"""Errors that are shown as plain lines: bad input, and work that failed."""

from __future__ import annotations


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
    """Return the message of the InputError that `error` is or wraps, or None.

    A worker's exception comes back wrapped by the cluster: as `cause`, as `__cause__`, or as one
    of a trainer's `worker_failures`.
    """
    seen: list[BaseException] = []
    stack = [error]
    while stack:
        current = stack.pop()
        if isinstance(current, InputError):
            # A wrapper that inherits from InputError carries a traceback in its own text.
            inner = getattr(current, "cause", None)
            return str(inner) if isinstance(inner, InputError) else str(current)
        seen.append(current)
        linked = [current.__cause__, current.__context__, getattr(current, "cause", None)]
        linked += list(getattr(current, "worker_failures", {}).values())
        stack += [e for e in linked if isinstance(e, BaseException) and e not in seen]
    return None
