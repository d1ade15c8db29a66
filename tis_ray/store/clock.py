"""What making something has cost in all, with the starts that were killed before it was made."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tis_ray.store.atomic import write_json

OFTEN = 1.0
"""Seconds between two marks."""


class Clock:
    """Counts the seconds since it was made, and those of earlier starts up to their last marks.

    folder: where the file with the marks is, until whoever makes the folder complete removes it.
    """

    FILE = "clock.json"

    def __init__(self, folder: Path) -> None:
        self._file = folder / self.FILE
        self._began = time.monotonic()
        try:
            self._before = float(json.loads(self._file.read_text())["seconds"])
        except FileNotFoundError:
            self._before = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of all starts so far."""
        return self._before + time.monotonic() - self._began

    @contextmanager
    def marked(self) -> Iterator[None]:
        """Keep the seconds so far for a later start, once a second while the block runs."""
        stop = threading.Event()

        def mark() -> None:
            while not stop.wait(OFTEN):
                write_json(self._file, {"seconds": self.seconds})

        thread = threading.Thread(target=mark, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
