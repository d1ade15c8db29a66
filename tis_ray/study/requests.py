"""Requests to a bucket, as clouds charge them, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from tis_ray.settings import PriceConfig


@dataclass(frozen=True)
class Requests:
    """How many requests a stage makes.

    writes: that put an object or list names, the dear kind. reads: that fetch an object, a range of one, or
    what is known of it. Removing costs nothing anywhere.
    """

    writes: float = 0.0
    reads: float = 0.0

    def __add__(self, other: Requests) -> Requests:
        """Return both together."""
        return Requests(self.writes + other.writes, self.reads + other.reads)

    def __mul__(self, times: float) -> Requests:
        """Return so many times as many."""
        return Requests(self.writes * times, self.reads * times)

    def cost(self, price: PriceConfig) -> float | None:
        """Return what they cost; None where the config does not say."""
        if price.writes_1000 is None or price.reads_1000 is None:
            return None
        return (self.writes * price.writes_1000 + self.reads * price.reads_1000) / 1000


NONE = Requests()
