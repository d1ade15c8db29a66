"""Bad input keeps its one line through every wrapper a cluster puts around it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tis_ray.errors import InputError, failure_line, refusal, user_message


class Wrapped(Exception):  # noqa: N818  as clusters name theirs
    """An exception that carries the worker's as `cause`, not as `__cause__`."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"Traceback (most recent call last): ... {cause}")
        self.cause = cause


class TrainingFailed(Exception):  # noqa: N818
    """An exception that carries one error for each worker."""

    def __init__(self, worker_failures: dict[int, BaseException]) -> None:
        super().__init__("worker group failed")
        self.worker_failures = worker_failures


def chained(error: BaseException) -> BaseException:
    try:
        raise RuntimeError("stage failed") from error
    except RuntimeError as outer:
        return outer


def test_bad_input_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)


def test_bad_input_is_found_under_any_wrapping() -> None:
    line = "pool.jsonl: line 3: no assistant turn"
    error = InputError(line)
    assert user_message(error) == line
    assert user_message(chained(error)) == line
    assert user_message(Wrapped(error)) == line
    assert user_message(TrainingFailed({0: OSError("lost"), 1: Wrapped(chained(error))})) == line


def test_a_wrapper_that_is_itself_bad_input_tells_the_inner_line() -> None:
    """Ray makes a class that inherits from its own error and from the user's."""

    class BothError(Wrapped, InputError):
        pass

    assert user_message(BothError(InputError("budget: 0"))) == "budget: 0"


def test_bad_input_met_while_handling_something_else_is_found() -> None:
    outer = RuntimeError("and then this")
    outer.__context__ = InputError("budget: 0")
    assert user_message(outer) == "budget: 0"


def test_other_errors_have_no_user_message() -> None:
    assert user_message(ValueError("a bug")) is None
    assert user_message(chained(KeyError("x"))) is None


def test_circular_causes_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert user_message(first) is None


# ---- what the system refuses -----------------------------------------------------------------


def test_a_full_disk_is_a_line_that_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "rows.parquet"))
    line = failure_line(Wrapped(chained(error)))
    assert line == (
        f"{tmp_path / 'rows.parquet'}: the disk is full; free some space, or set `artifacts` and "
        "`runs` to folders on another disk"
    )


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (
            OSError("SafetensorError: I/O error: No space left on device (os error 28)"),
            "disk is full",
        ),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "disk is full"),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/a"),
            "runs/a: this user may not do",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "runs/a"),
            "runs/a: the folder is read-only",
        ),
        (OSError(errno.EFBIG, "File too large", "a.npy"), "a.npy: a file may not grow that large"),
    ],
)
def test_libraries_spell_what_the_system_refuses(error: BaseException, meaning: str) -> None:
    refused = refusal(error)
    assert refused is not None
    assert meaning in refused.what
    assert "\n" not in refused.what


def test_other_errors_are_refused_by_nobody() -> None:
    assert refusal(OSError(errno.ENOENT, "No such file or directory", "a")) is None
    assert refusal(ValueError("a bug")) is None


def test_what_nobody_foresaw_is_its_type_message_and_place() -> None:
    try:
        raise ZeroDivisionError("no rows\nat all")
    except ZeroDivisionError as error:
        line = failure_line(Wrapped(error))
    assert line.startswith(f"ZeroDivisionError: at all ({__file__}, line ")
    assert line.endswith(", in test_what_nobody_foresaw_is_its_type_message_and_place)")
