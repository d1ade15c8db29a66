"""Running one function as a Ray task: for a measurement, and to try whether Ray works."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import ray

from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.lost import lost_workers
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.distributed.starting import start_here

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def run_task(
    stage: str,
    cluster: Cluster,
    work: Callable[Arguments, Result],
    *arguments: Arguments.args,
    **named: Arguments.kwargs,
) -> Result:
    """Return `work(...)`, run where an actor of the study would be.

    Raises FailedError, which names the `stage`, where its process keeps dying.
    """
    task = ray.remote(work).options(**cluster.actor_resources)  # type: ignore[attr-defined]
    with lost_workers(stage):
        result: Result = ray.get(task.remote(*arguments, **named))
    return result


def try_ray() -> str:
    """Start Ray here, run one task, stop it; return what happened. Raises what Ray raises.

    A Ray that this process is connected to already is used, and left as it is.
    """
    running = ray.is_initialized()
    with quiet_ray():
        if not running:
            start_here(log_to_driver=False, logging_level=logging.ERROR)
        try:
            process = ray.get(ray.remote(_process).remote(), timeout=60)
        finally:
            if not running:
                ray.shutdown()
    return f"ran in process {process}" + (" of the connected cluster" if running else "")


def _process() -> int:
    """Return the number of the process that this runs in (Ray takes no built-in function)."""
    return os.getpid()
