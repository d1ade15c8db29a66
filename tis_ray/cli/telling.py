"""Signs of life of a verb that measures: what it is doing, and for how long. Loads nothing else of the package."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from rich.console import Console

from tis_ray.background import in_background

OFTEN = 4.5
"""Seconds between two lines while one thing is measured."""


@contextmanager
def telling(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield `tell(what)`, which says what is being done: on a line that moves, or in lines now and then."""
    now, since, said = "", time.monotonic(), time.monotonic()
    with console.status("") as status:

        def tell(what: str) -> None:
            nonlocal now, since, said
            now, since, said = what, time.monotonic(), time.monotonic()
            status.update(what)
            if not console.is_terminal:
                console.print(f"  {what}", highlight=False, markup=False, soft_wrap=True)

        def watch(stop: Event) -> None:
            nonlocal said
            while not stop.wait(0.5):
                spent = f"{now} ({time.monotonic() - since:.0f} s)"
                status.update(spent)
                if not console.is_terminal and time.monotonic() - said > OFTEN:
                    said = time.monotonic()
                    console.print(f"  {spent}", highlight=False, markup=False, soft_wrap=True)

        with in_background(watch):
            yield tell
