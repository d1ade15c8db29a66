"""A clock that survives restarts: seconds spent on an artifact, those of killed starts included."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from threading import Event

from tis_ray.background import in_background
from tis_ray.storage import Place, is_remote
from tis_ray.store.atomic import write_json
from tis_ray.store.files import find_json

OFTEN, IN_BUCKET = 1.0, 30.0
"""Seconds between two marks on a disk, and in a bucket. What a start that is killed did after its last is not counted."""


class Clock:
    """Counts the seconds since it was made, and those of earlier starts up to their last marks.

    folder: where the file with the marks is, until whoever makes the folder complete removes it.
    """

    FILE = "clock.json"

    def __init__(self, folder: Place) -> None:
        self._file = folder / self.FILE
        self._began = time.monotonic()
        marks = find_json(self._file)
        self._before = 0.0 if marks is None else float(marks["seconds"])

    @property
    def seconds(self) -> float:
        """Seconds of all starts so far."""
        return self._before + time.monotonic() - self._began

    def marked(self) -> AbstractContextManager[None]:
        """Keep the seconds so far for a later start, once a second while the block runs."""

        def mark(stop: Event) -> None:
            while not stop.wait(IN_BUCKET if is_remote(self._file) else OFTEN):
                write_json(self._file, {"seconds": self.seconds})

        return in_background(mark)
