"""What the program prints, in a notebook: the same lines and colours."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

WIDTH = 110
PRE = (
    "<pre style=\"font-family: Menlo, Consolas, 'DejaVu Sans Mono', monospace; line-height: 1.35; "
    'white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere">'
)
"""How lines of a terminal begin in a notebook, whose own style sets them in letters of unequal width and
breaks words."""


class Printed:
    """Something that can be printed on a console, as text and as HTML."""

    def __init__(self, print_on: Callable[[Console], None]) -> None:
        self._print_on = print_on

    def __repr__(self) -> str:
        out = io.StringIO()
        self._print_on(Console(file=out, width=WIDTH, force_jupyter=False))
        return out.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        console = Console(
            file=io.StringIO(), width=WIDTH, record=True, force_terminal=True, force_jupyter=False
        )
        self._print_on(console)
        # A fragment of the notebook's page; rich would write a whole one.
        return console.export_html(code_format=f"{PRE}{{code}}</pre>", inline_styles=True)
