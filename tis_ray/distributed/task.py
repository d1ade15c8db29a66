"""One piece of work on one node of the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tis_ray.distributed.connect import Cluster

import ray  # isort: skip  (after `connect`, which sets its environment)


def run_task(work: Callable[..., Any], *arguments: Any, cluster: Cluster) -> Any:
    """Return `work(*arguments)`, run where an actor of the study would be."""
    task = ray.remote(work).options(**cluster.actor_resources)  # type: ignore[attr-defined]
    return ray.get(task.remote(*arguments))


def try_ray() -> str:
    """Start Ray here, run one task, stop it; return what happened. Raises what Ray raises."""
    if ray.is_initialized():
        return "already connected"
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        task = ray.remote(num_cpus=1)(lambda: os.getpid())
        return f"ran in process {ray.get(task.remote(), timeout=60)}"
    finally:
        ray.shutdown()
