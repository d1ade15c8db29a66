"""Ctrl-C while Ray Train or Ray Tune works: it reaches the caller, and the cluster is left as it was.

For a notebook, whose process goes on; the program ends with all it has started (`tis_ray.stopping`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

from tis_ray.stopping import own_signals

_OWN_HANDLER = "TUNE_DISABLE_SIGINT_HANDLER"
"""Tells Tune to leave Ctrl-C alone; with its handler `fit` would return fewer results, as if all were well."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt; if the block raises, give back the places that it held on the cluster."""
    there, given = _held(), os.environ.get(_OWN_HANDLER)
    os.environ[_OWN_HANDLER] = "1"
    try:
        with own_signals():
            yield
    except BaseException as error:
        for held in _held() - there:
            with suppress(Exception):  # it may be gone by now
                remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(held))))
        if isinstance(error, SystemExit):  # what Train makes of Ctrl-C
            raise KeyboardInterrupt from None
        raise
    finally:
        if given is None:
            del os.environ[_OWN_HANDLER]
        else:
            os.environ[_OWN_HANDLER] = given


def _held() -> set[str]:
    """Return the placement groups that hold something, or wait for it."""
    with suppress(Exception):  # the cluster is gone
        return {
            name for name, group in placement_group_table().items() if group["state"] != "REMOVED"
        }
    return set()
