"""Asking the nodes of a cluster: the same function on each, with as long as they have together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Node = Mapping[str, Any]
"""What Ray says of a node."""


def alive() -> list[Node]:
    """Return the nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def others() -> list[Node]:
    """Return the nodes that work, but this machine's."""
    here = ray.get_runtime_context().get_node_id()
    return [node for node in alive() if _works(node["Resources"]) and node["NodeID"] != here]


def name_of(node: Node) -> str:
    """Return what a node is called."""
    return str(node.get("NodeManagerHostname") or node["NodeManagerAddress"])


def ask(
    nodes: Iterable[Node],
    work: Callable[..., Any],
    arguments: Callable[[Node], tuple[Any, ...]],
    seconds: float,
) -> list[tuple[Node, Any]]:
    """Return what `work` returns on each node, or what it raised there; a TimeoutError of one that is late.

    It needs no CPU there. arguments: of the call on a node.
    """
    task, asked = ray.remote(work), {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        there_only = task.options(num_cpus=0, max_retries=0, scheduling_strategy=there)  # type: ignore[attr-defined]
        asked[there_only.remote(*arguments(node))] = node
    if not asked:
        return []
    done, late = ray.wait([*asked], num_returns=len(asked), timeout=seconds)
    answers: list[tuple[Node, Any]] = []
    for reference in done:
        try:
            answers.append((asked[reference], ray.get(reference, timeout=1)))
        except (RayError, GetTimeoutError) as error:
            answers.append((asked[reference], error))
    for reference in late:
        ray.cancel(reference, force=True)
        answers.append((asked[reference], TimeoutError()))
    return answers


def _works(resources: Mapping[str, float]) -> bool:
    return resources.get("CPU", 0) > 0 or resources.get("GPU", 0) > 0
