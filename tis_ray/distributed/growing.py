"""A cluster that grows: before a study is laid out over the nodes that are there, more are asked for.

What a study asks for while it works is never more than what it has found, so an autoscaler would add nothing. Room
is asked for by placement groups, one an actor: they wait for nodes, and are gone with this process whatever ends it,
while a request to the autoscaler (`ray.autoscaler.sdk.request_resources`) would keep the nodes, and the bill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import ray
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import RaySystemError, RpcError
from ray.util import placement_group, remove_placement_group

GROUP = "ray.io/node-group"
"""Label of a node that belongs to an autoscaler's group: what `ray start` alone starts has none."""
PATIENCE = 900.0
"""Seconds that nodes have to come: a machine is found and started, and fetches its image."""
STILL = 45.0
"""Seconds without a new node, or one on its way, after which no more are expected."""
OFTEN = 2.0


def grow(
    room: Callable[[], int], wanted: int, actor: Mapping[str, float], say: Callable[[str], None]
) -> int:
    """Return for how many actors there is room when no more nodes come; at most `wanted` are waited for.

    room: counts for how many there is room now. actor: what one takes, by Ray's names. A cluster without an
    autoscaler is not waited for. say: is told what is waited for.
    """
    there = room()
    if there >= wanted or not _scales():
        return there
    asked = [placement_group([dict(actor)]) for _ in range(wanted)]
    began = moved = time.monotonic()
    before = -1
    try:
        while there < wanted and min(began + PATIENCE, moved + STILL) > time.monotonic():
            if there != before:
                say(f"waiting for nodes: there is room for {there} of {wanted} actor(s)")
            time.sleep(OFTEN)
            before, there = there, room()
            if there != before or _on_their_way():
                moved = time.monotonic()
    finally:
        for each in asked:
            remove_placement_group(each)
    return there


def _scales() -> bool:
    return any(GROUP in node["Labels"] for node in ray.nodes() if node["Alive"])


def _on_their_way() -> bool:
    """Return whether the autoscaler has ordered nodes that have not come."""
    try:
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
    except (RpcError, RaySystemError):  # it is busy, or of another kind
        return False
    return bool(status.pending_launches or status.pending_nodes)
