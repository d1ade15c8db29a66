"""Connecting to Ray: join a cluster or start one on this machine, and count the actors it has room for."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from tis_ray.config import Config
from tis_ray.distributed.growing import grow
from tis_ray.distributed.head import watch_head
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.distributed.starting import start_here
from tis_ray.errors import InputError
from tis_ray.stopping import own_signals
from tis_ray.storage import is_remote

IN_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Name of the variable that Ray sets for the driver of a job."""
PATIENCE = 25.0
"""Seconds in which a cluster has to answer."""


@dataclass(frozen=True)
class Cluster:
    """What the cluster offers to one study."""

    cpus: int
    gpus: float
    threads: int
    """CPU threads of each actor."""
    gpus_per_actor: float
    actors: int
    """How many actors a stage starts."""
    most_actors: int = 0
    """To how many it grows as nodes come; no more than `actors` does not grow."""
    max_failures: int = 3
    """How often a training is restarted after a worker is lost."""

    @property
    def device(self) -> str:
        """Where models run: `cuda` or `cpu`."""
        return "cuda" if self.gpus_per_actor > 0 else "cpu"

    @property
    def actor_resources(self) -> dict[str, float]:
        """Arguments of `.options(...)` or `map_batches(...)` for one actor.

        An actor asks for a little less than its threads, so that a pool as large as the machine
        still leaves room for Ray Data's own tasks (a pool that holds every CPU would wait forever).
        """
        resources: dict[str, float] = {"num_cpus": 0.9 * self.threads}
        if self.gpus_per_actor:
            resources["num_gpus"] = self.gpus_per_actor
        return resources

    @property
    def trial_resources(self) -> dict[str, float]:
        """The same for one process that trains, by the names that Ray Tune and Ray Train use."""
        names = {"num_cpus": "CPU", "num_gpus": "GPU"}
        return {names[name]: amount for name, amount in self.actor_resources.items()}


def connect(config: Config, say: Callable[[str], None] = lambda _: None) -> Cluster:
    """Join or start Ray and size the stages.

    Joins `compute.address`, else RAY_ADDRESS (set inside `ray job submit`), else starts Ray here. A cluster that
    scales is asked for room for `compute.actors`, or for one actor where it has none; say: is told of the wait.
    Raises InputError when the cluster cannot hold one actor, and in a job when results would be lost.
    """
    compute = config.compute
    if IN_JOB in os.environ:
        require_lasting_folders(config)
    if not ray.is_initialized():
        address = compute.address or os.environ.get("RAY_ADDRESS")
        _start(address)
        _joined.append(address is None)
        watch_head(ray.get_runtime_context().gcs_address)
    threads = config.batch.threads
    each_gpu = compute.gpus_per_actor
    if each_gpu is None:
        each_gpu = 1.0 if ray.cluster_resources().get("GPU", 0.0) else 0.0

    def room_now() -> int:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(_room(resources, threads, each_gpu) for resources in alive)

    actor = {"CPU": float(threads), **({"GPU": each_gpu} if each_gpu else {})}
    room = grow(room_now, compute.actors or 1, actor, say)
    resources = ray.cluster_resources()
    cpus, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
    if room < 1:
        raise InputError(
            f"compute: one actor needs {threads} CPU(s) and {each_gpu:g} GPU(s) of one node, and the "
            f"cluster has {cpus} and {gpus:g}; lower batch.threads or compute.gpus_per_actor, or "
            "wait for its worker nodes"
        )
    actors = min(compute.actors or room, compute.max_actors or room, room)
    # This machine does not grow, and a host program's Ray is not ours to fill.
    grows = bool(_joined) and not _joined[-1]
    most = compute.max_actors or compute.actors or sys.maxsize
    return Cluster(
        cpus=cpus,
        gpus=gpus,
        threads=threads,
        gpus_per_actor=each_gpu,
        actors=actors,
        most_actors=most if grows else 0,
        max_failures=compute.max_failures,
    )


def _start(address: str | None) -> None:
    """Join the cluster at `address`, or start one on this machine."""
    options = {"logging_level": logging.WARNING, "log_to_driver": False}
    with quiet_ray(), own_signals():
        if address is None:
            start_here(**options)
            return
        _join(address, options)


def _join(address: str, options: dict[str, Any]) -> None:
    """Join a cluster. Raises InputError where none answers in time: Ray itself would try for minutes."""
    outcome: list[BaseException | None] = []

    def join() -> None:
        try:
            ray.init(address=address, **options)
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    if _is_deaf(address):
        outcome.append(ConnectionError("nobody listens there"))
    else:
        joining = threading.Thread(target=join, name="join", daemon=True)
        joining.start()
        joining.join(PATIENCE)
    error = outcome[0] if outcome else TimeoutError(f"no answer within {PATIENCE:.0f} s")
    if error is None:
        return
    if not isinstance(error, ConnectionError | TimeoutError):
        raise error
    reason = str(error).strip().splitlines()[0]
    raise InputError(
        f"compute.address: no Ray cluster at {address} accepts this process ({reason}); "
        "start one with `ray start --head`, or set the address to null; if the cluster uses "
        "a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here too"
    )


def _is_deaf(address: str) -> bool:
    """Return whether an address names a machine and a port where nobody listens."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return False
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE / 3).close()
    except OSError:
        return True
    return False


def disconnect() -> None:
    """Leave the cluster that this process has joined; one that it has started ends with its children."""
    if _joined and not _joined[-1]:
        with own_signals():
            ray.shutdown()


_joined: list[bool] = []
"""Of the clusters that this process has joined, whether it has started them; a host program's is not one."""


def require_lasting_folders(config: Config) -> None:
    """Raise InputError when a job would write its results where they do not outlive it.

    A job starts in a copy of its files that Ray deletes, and its workers may be on other nodes.
    """
    for field in ("runs", "artifacts"):
        folder = getattr(config, field)
        if not is_remote(folder) and not Path(folder).is_absolute():
            raise InputError(
                f"{field}: found `{folder}`; a job needs an absolute path that every node sees, "
                f"such as --set {field}=/shared/{field}, or a bucket, as in --set {field}=s3://bucket/{field}"
            )


def _room(resources: dict[str, float], threads: int, gpus_per_actor: float) -> int:
    """Return how many actors fit on one node; an actor never spans two."""
    room = math.floor(resources.get("CPU", 0) / threads)
    if gpus_per_actor:
        room = min(room, math.floor(resources.get("GPU", 0) / gpus_per_actor))
    return room
