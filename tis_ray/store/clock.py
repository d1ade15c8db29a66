"""What a folder's content has cost in all: the seconds of every start that worked on it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tis_ray.store.atomic import write_json


class Clock:
    """Counts the seconds since it was made, and those of earlier starts that did not end.

    An earlier start counts up to the last file that it left: what it did after that is lost, and
    so is when it died.
    """

    FILE = "clock.json"

    def __init__(self, folder: Path, *others: Path) -> None:
        """Begin a start. others: more folders that the work leaves files in."""
        self._began = time.monotonic()
        self._before = 0.0
        file = folder / self.FILE
        if file.exists():
            told = json.loads(file.read_text())
            left = [
                path.stat().st_mtime
                for place in (folder, *others)
                for path in place.rglob("*")
                if path.is_file() and path != file
            ]
            self._before = told["before"] + max(0.0, max(left, default=0.0) - told["began"])
        write_json(file, {"before": self._before, "began": time.time()})

    @property
    def seconds(self) -> float:
        """Seconds of all starts so far."""
        return self._before + time.monotonic() - self._began
