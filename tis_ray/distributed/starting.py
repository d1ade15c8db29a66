"""Starting Ray on this machine, which it gives up after half a minute where the machine is busy."""

from __future__ import annotations

from typing import Any

import ray

from tis_ray.errors import FailedError

STARTS = 3
_BUSY = "timed out during startup"
"""In the words of Ray, whose processes wait for each other in vain then."""


def start_here(**options: Any) -> None:
    """Start Ray with options of `ray.init`; where it gives up, start it again.

    Raises FailedError if it gives up each time.
    """
    for _ in range(STARTS):
        try:
            ray.init(address="local", include_dashboard=False, **options)
            return
        except Exception as error:  # Ray raises nothing narrower
            ray.shutdown()
            if _BUSY not in str(error):
                raise
    raise FailedError(
        f"Ray did not start on this machine in {STARTS} tries, each of half a minute: it is too busy; end other "
        "work, or join a cluster (compute.address); the same command continues"
    )
