"""Starting Ray on this machine, which it gives up after half a minute where the machine is busy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import node

from tis_ray.distributed.quiet import quiet_connection
from tis_ray.errors import FailedError

STARTS = 3
_BUSY = ("timed out during startup", "Timed out waiting for")
"""In the words of Ray, whose processes wait for each other in vain then."""
_SLICE_MS, _BETWEEN = 1, 0.02
"""Of Ray's wait for a process of its own, in milliseconds, and the seconds between two slices."""


def start_here(**options: Any) -> None:
    """Start Ray with options of `ray.init`; where it gives up, start it again.

    Raises FailedError if it gives up each time.
    """
    for _ in range(STARTS):
        try:
            with _waiting_in_slices(), quiet_connection():
                ray.init(address="local", include_dashboard=False, **options)
            return
        except Exception as error:  # Ray raises nothing narrower
            ray.shutdown()
            if not any(words in str(error) for words in _BUSY):
                raise
    raise FailedError(
        f"Ray did not start on this machine in {STARTS} tries, each of half a minute: it is too busy; end other "
        "work, or join a cluster (compute.address); the same command continues"
    )


@contextmanager
def _waiting_in_slices() -> Iterator[None]:
    """Let other threads run while Ray waits for a process that it has started.

    Its wait (`wait_for_persisted_port`, compiled) keeps Python's lock to the end, up to half a minute: a signal
    would have nobody to act on it, and where it had halted that process just before, the program would hang.
    """
    whole = node.wait_for_persisted_port

    def in_slices(*place: Any, timeout_ms: int = 30_000) -> int:
        end = time.monotonic() + timeout_ms / 1000
        while True:
            try:
                return int(whole(*place, timeout_ms=_SLICE_MS, poll_interval_ms=_SLICE_MS))
            except RuntimeError:
                if time.monotonic() > end:
                    raise
            time.sleep(_BETWEEN)

    node.wait_for_persisted_port = in_slices
    try:
        yield
    finally:
        node.wait_for_persisted_port = whole
