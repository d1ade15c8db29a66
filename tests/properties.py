"""How many cases a property is tried on: a quarter of them in the inner loop, all in `make test-all`.

The inner loop tries the same cases each time, so that it fails for the change at hand or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, settings

ALL = 100
"""Cases of a property that names no number, under the profile `all`."""


def load_profiles() -> None:
    """Make the inner loop the default; `pytest --hypothesis-profile all` tries every case.

    Without deadlines: how long a case takes depends on what else the machine does.
    """
    settings.register_profile("loop", max_examples=ALL // 4, derandomize=True, deadline=None)
    settings.register_profile("all", max_examples=ALL, deadline=None, print_blob=True)
    settings.load_profile("loop")


def tries(count: int, suppress: Sequence[HealthCheck] = ()) -> settings:
    """Return settings that try a property on `count` cases, in the inner loop on a quarter of them."""
    share = settings.default.max_examples / ALL
    return settings(max_examples=max(5, round(count * share)), suppress_health_check=suppress)
