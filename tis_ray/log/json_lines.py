"""Lines as JSON objects, for a program that collects logs: `TIS_RAY_LOG=json`.

Each has `time` (ISO 8601, UTC), `level` (`info`, `warning`, `error`), `study`, `stage`, `shard`, `node` and `message`;
what is not known of a line is null. The program's lines on standard error are such, and those in the logs of workers.
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, cast

from rich.console import Console

from tis_ray.errors import InputError

VARIABLE = "TIS_RAY_LOG"
FORMS = ("text", "json")
_BEGIN = '{"time": "'
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LEVELS = {"failed:": "error", "error:": "error", "warning:": "warning", "damaged:": "warning"}
"""What a line begins with that is more than news."""
_about: ContextVar[tuple[str | None, str | None]] = ContextVar("about", default=(None, None))


def lines_are_json() -> bool:
    """Return whether lines are to be JSON. Raises InputError for a form that is not known."""
    form = os.environ.get(VARIABLE) or "text"
    if form not in FORMS:
        raise InputError(f"{VARIABLE}: found `{form}`; use text or json")
    return form == "json"


@contextmanager
def lines_about(study: str | None, stage: str | None) -> Iterator[None]:
    """Let the lines that this thread writes in the block be about a study and one of its stages."""
    token = _about.set((study, stage))
    try:
        yield
    finally:
        _about.reset(token)


def json_line(
    message: str, study: str | None = None, stage: str | None = None, shard: int | None = None
) -> str:
    """Return a line as a JSON object; the level is told by its first word."""
    first = message.split(maxsplit=1)[0] if message.strip() else ""
    facts = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": _LEVELS.get(first, "info"),
        "study": study,
        "stage": stage,
        "shard": shard,
        "node": socket.gethostname(),
        "message": message,
    }
    return json.dumps(facts, ensure_ascii=False)


def is_json_line(line: str) -> bool:
    """Return whether a line is such an object already."""
    return line.startswith(_BEGIN) and line.rstrip().endswith("}")


def stderr_console(width: int | None = None) -> Console:
    """Return a console on standard error, whose lines are JSON where that is asked for."""
    if os.environ.get(VARIABLE) == "json":
        return Console(file=as_asked(sys.stderr), width=width or 110, no_color=True)
    return Console(stderr=True, width=width)


def as_asked(file: IO[str]) -> IO[str]:
    """Return a file to which lines are written as JSON where that is asked for, else the file itself."""
    return cast(IO[str], JsonLines(file)) if os.environ.get(VARIABLE) == "json" else file


class JsonLines(io.TextIOBase):
    """A file that writes each line it is given as a JSON object to another one."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self._rest = ""
        self._one = threading.Lock()

    def write(self, text: str, /) -> int:
        """Write the lines that are whole; keep the rest for the next call."""
        with self._one:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                self._line(line)
            self.file.flush()
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def _line(self, line: str) -> None:
        plain = _STYLE.sub("", line).rstrip("\r ")
        if is_json_line(plain):  # of a job whose log is shown
            self.file.write(plain + "\n")
        elif plain.strip():
            study, stage = _about.get()
            self.file.write(json_line(plain.strip(), study, stage) + "\n")
