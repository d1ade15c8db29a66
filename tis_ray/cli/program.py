"""The whole program: a verb runs, and whatever went wrong becomes a line and an exit code.

Signals are taken before anything that takes time is imported, so that Ctrl-C is one line from the start on.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from tis_ray.stopping import leave, stop_at_signals

if TYPE_CHECKING:
    from rich.console import Console


def main() -> None:
    """Run the verb that the command line names, and exit. The process is this program's."""
    stop_at_signals(_last_word)
    # Imports make so many objects, which stay; Python would look through them again and again.
    gc.set_threshold(100_000)
    from tis_ray.cli.answer import answer

    code = answer()
    if "tis_ray.distributed.connect" in sys.modules:
        from tis_ray.distributed.connect import disconnect

        disconnect()
        leave(code)
    sys.exit(code)


def _last_word(line: str) -> None:
    """Say a line on the terminal, below all that is there, and let nothing be said after it."""
    console: Console | None = getattr(sys.modules.get("tis_ray.cli.options"), "console", None)
    moves = console is not None and console.is_terminal
    file = console.file if console is not None else sys.stderr
    file.write(f"{CLEAR if moves else ''}{line}\n")
    file.flush()
    if console is not None:
        console.quiet = True


CLEAR = "\r\x1b[2K\x1b[?25h"
"""Takes the moving line away and shows the cursor again."""
