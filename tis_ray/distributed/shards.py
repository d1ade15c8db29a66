"""Mapping a worker class over shards with Ray Data: the shell of every stage that streams the pool.

The rows of the data set are shard numbers, not examples. Each actor reads its shard from the
artifact before, computes, and writes one file by rename. So the content of a file depends on its
shard alone (not on actors, blocks or order), a shard is the unit of resume, nothing large passes
through the object store, and a lost actor costs the shards it was working on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
import ray.data
import torch
from ray.exceptions import RayTaskError
from ray.util.annotations import RayDeprecationWarning

from tis_ray.batches.threads import cpu_threads
from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.lost import MAX_RESTARTS, lost_workers
from tis_ray.errors import InputError
from tis_ray.log import RunLog, peak_mb

FEW_SHARDS = 16


class ShardWorker(Protocol):
    """Built once per actor; called with a shard number; returns facts about the shard (JSON-able)."""

    def __call__(self, shard: int, /) -> dict[str, Any]:
        """Write the shard's file; return `rows`, `seconds` and, if any, `cut` (texts cut short)."""
        ...


class Hands(Protocol):
    """Whoever has a cluster and a log: the context of a study."""

    cluster: Cluster
    log: RunLog


class _Actor:
    """Adapts a ShardWorker to `map_batches`: one shard a batch.

    The worker is built with the first shard: of what an actor's constructor raises, Ray keeps the text
    alone, and one that is killed in it is not started again.
    """

    def __init__(
        self, worker_class: type[ShardWorker], arguments: dict[str, Any], threads: int
    ) -> None:
        torch.set_num_threads(threads)  # the actor's process is its own
        self.build = partial(worker_class, **arguments)
        self.worker: ShardWorker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self.worker is None:
            self.worker = self.build()
        facts = [self.worker(int(shard)) for shard in batch["shard"]]
        return {
            "rows": [fact["rows"] for fact in facts],
            "seconds": [fact["seconds"] for fact in facts],
            "cut": [fact.get("cut", 0) for fact in facts],
            "peak_mb": [peak_mb()] * len(facts),
        }


def map_shards(
    worker_class: type[ShardWorker],
    arguments: dict[str, Any],
    shards: Sequence[int],
    study: Hands,
    label: str,
    gpu: bool = False,
    light: bool = False,
) -> dict[str, Any]:
    """Run the worker over `shards` in an actor pool; return totals: rows, seconds, cut, peak_mb.

    `arguments` must be picklable. An exception in a worker ends the run with that exception, and a
    worker that keeps dying with FailedError.
    `light` work on few shards is done in this process: it ends before an actor would have started.
    """
    totals = {"rows": 0, "seconds": 0.0, "cut": 0, "peak_mb": 0.0}
    if not shards:
        return totals
    if light and len(shards) <= FEW_SHARDS:
        with cpu_threads(study.cluster.threads):
            here = worker_class(**arguments)
            for shard in shards:
                fact = here(shard)
                for name in ("rows", "seconds", "cut"):
                    totals[name] += fact.get(name, 0)
        return {**totals, "peak_mb": peak_mb()}
    size = min(study.cluster.actors, len(shards))
    resources = dict(study.cluster.actor_resources)
    if not gpu:
        resources.pop("num_gpus", None)
    with lost_workers(label), _settings_of_ray_data():
        numbers = ray.data.from_items(
            [{"shard": shard} for shard in shards], override_num_blocks=len(shards)
        )
        with warnings.catch_warnings():
            # Ray 2.64 takes `max_restarts` away, and 2.60 has nothing in its place.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            results = numbers.map_batches(
                _Actor,
                fn_constructor_kwargs={
                    "worker_class": worker_class,
                    "arguments": arguments,
                    "threads": study.cluster.threads,
                },
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
                max_restarts=MAX_RESTARTS,
                **resources,
            )
        with study.log.progress(label, len(shards), "shards") as advance:
            for row in results.iter_rows():
                for name in ("rows", "seconds", "cut"):
                    totals[name] += row[name]
                totals["peak_mb"] = max(totals["peak_mb"], row["peak_mb"])
                advance(1)
    return totals


@contextmanager
def _settings_of_ray_data() -> Iterator[None]:
    """Let it raise a worker's own exception, and draw no bars; afterwards they are the host program's."""
    context = ray.data.DataContext.get_current()
    before = context.raise_original_map_exception, context.enable_progress_bars
    context.raise_original_map_exception, context.enable_progress_bars = True, False
    try:
        yield
    except RayTaskError as error:  # its text is a worker's traceback; Ray adds advice to the cause
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause).partition("\n")[0]) from None
        raise
    finally:
        context.raise_original_map_exception, context.enable_progress_bars = before


def pending(folder: Path, pattern: str, count: int) -> list[int]:
    """Return the shards of 0..count-1 whose file (`pattern.format(shard)`) is not there yet."""
    return [shard for shard in range(count) if not (folder / pattern.format(shard)).exists()]
