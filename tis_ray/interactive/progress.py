"""Where a run in Python shows its progress: in a notebook one output that is kept up to date, else stderr."""

from __future__ import annotations

import html
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from tis_ray.interactive.printed import PRE, WIDTH
from tis_ray.log.descriptors import descriptors_to
from tis_ray.storage import Place


@contextmanager
def console_here(log: Place) -> Iterator[Console]:
    """Yield the console of this program: a notebook's output, or stderr.

    In a notebook what C++ code writes goes to the file `log`.
    """
    if not in_notebook():
        yield Console(stderr=True)
        return
    output = NotebookOutput()
    with descriptors_to(log):
        yield Console(file=output, width=WIDTH, force_terminal=False, force_jupyter=False)
    output.close()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def quiet_notebook() -> None:
    """Hold back what libraries say of notebooks: that packages for their own displays are not installed."""
    if in_notebook():
        warnings.filterwarnings("ignore", message="IProgress not found")
        logging.getLogger("ray.widgets").setLevel(logging.WARNING)


class NotebookOutput(io.StringIO):
    """A file whose lines stand in one output of a notebook.

    Lines that begin with two spaces tell of work in progress: each is replaced by the next line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._rest = ""
        self._handle: Any = None

    def write(self, text: str) -> int:
        """Add text; whole lines are shown at once."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if self._in_progress():
                self.lines.pop()
            self.lines.append(line)
        if lines:
            self._show()
        return len(text)

    def close(self) -> None:
        """Take the last line of progress away, if one is left."""
        if not self.closed and self._in_progress():
            self.lines.pop()
            self._show()
        super().close()

    def _in_progress(self) -> bool:
        return bool(self.lines) and re.match(r"  \S", self.lines[-1]) is not None

    def _show(self) -> None:
        from IPython.display import HTML, display

        shown = HTML(f"{PRE}{html.escape(chr(10).join(self.lines))}</pre>")
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)
