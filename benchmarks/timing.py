"""Timing things against each other fairly: interleaved in one process, medians of several.

CPU time by default, which other work on the machine disturbs least. Whatever happens to the machine
during a repeat happens to both sides of it, so ratios are taken within a repeat. The order is turned
round each time, so that none profits from what the other left in the caches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Clock = Callable[[], float]


def interleaved(
    works: Mapping[str, Callable[[], Any]], repeats: int, clock: Clock = time.process_time
) -> dict[str, list[float]]:
    """Return each one's seconds, one figure for each repeat."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats):
        for name in list(works)[:: 1 if repeat % 2 == 0 else -1]:
            start = clock()
            works[name]()
            spent[name].append(clock() - start)
    return spent


def ratio(name: str, peer: Callable[[], Any], ours: Callable[[], Any], repeats: int = 5) -> None:
    """Print the median CPU seconds of both and the ratio peer ÷ ours with its spread."""
    found = interleaved({"peer": peer, "ours": ours}, repeats)
    quotients = [a / b for a, b in zip(found["peer"], found["ours"], strict=True)]
    print(
        f"{name}: peer {statistics.median(found['peer']):.3f} s, "
        f"ours {statistics.median(found['ours']):.3f} s, ratio {spread(quotients)} "
        f"over {repeats} interleaved repeats"
    )


def verdict(name: str, above: Sequence[float], below: Sequence[float], target: str) -> None:
    """Print one line: both medians in seconds, above ÷ below with its spread, and the target.

    target: ">= 100" or "<= 1.25".
    """
    quotients = [a / b for a, b in zip(above, below, strict=True)]
    middle = statistics.median(quotients)
    kind, _, bound = target.partition(" ")
    met = middle >= float(bound) if kind == ">=" else middle <= float(bound)
    print(
        f"  {name}: {seconds(statistics.median(above))} ÷ {seconds(statistics.median(below))} = "
        f"{spread(quotients)}; target {target}: {'met' if met else 'MISSED'}",
        flush=True,
    )


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    digits = 0 if statistics.median(values) >= 100 else 2
    median, least, most = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} [{least}, {most}]"


def seconds(value: float) -> str:
    """Seconds with three digits that count; milliseconds if it is less than a tenth."""
    if value >= 100:
        return f"{value:,.0f} s"
    return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"
