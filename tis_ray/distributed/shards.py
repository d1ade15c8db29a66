"""Mapping a worker class over shards with Ray Data: how every stage that streams the pool is run.

The rows of the data set are shard numbers, not examples. Each actor reads its shard from the
artifact before, computes, and writes one file by rename. So the content of a file depends on its
shard alone (not on actors, blocks or order), a shard is the unit of resume, nothing large passes
through the object store, and a lost actor costs the shards it was working on. Of many shards a task
has several (`tis_ray.distributed.groups`).
"""

from __future__ import annotations

import socket
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from threading import Event
from typing import Any, Protocol, TypedDict

import numpy as np
import ray
import ray.data
import torch
from ray.exceptions import RayTaskError
from ray.util.annotations import RayDeprecationWarning

from tis_ray.background import in_background
from tis_ray.batches.seen import seen
from tis_ray.batches.threads import cpu_threads
from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.groups import GroupWork, ShardFacts, groups_of
from tis_ray.distributed.lost import MAX_RESTARTS, lost_workers
from tis_ray.distributed.metrics import StageMetrics, done_since
from tis_ray.distributed.observed import failing, work_of
from tis_ray.distributed.worker_logs import Work, WorkerLog, begin_logs, finish_logs
from tis_ray.errors import InputError
from tis_ray.log import Activity, RunLog, peak_mb
from tis_ray.storage import Place, listed, pace, remove_folder
from tis_ray.store import read_json, write_json

__all__ = ["ShardFacts", "ShardWorker", "Totals", "map_shards", "pending"]

FEW_SHARDS = 16
DONE = "done"
"""Folder of the notes which shards of a group are done, beside the counts of rows."""


class Totals(TypedDict):
    """The same of all shards, the peak memory of the largest process in MB, and shards by node."""

    rows: int
    seconds: float
    cut: int
    peak_mb: float
    nodes: dict[str, int]


class ShardWorker(Protocol):
    """Built once per actor and called with shard numbers."""

    def __call__(self, shard: int, /) -> ShardFacts:
        """Write the shard's file; return what it took."""
        ...


class ClusterAndLog(Protocol):
    """What has a cluster and a log, such as the context of a study."""

    cluster: Cluster
    log: RunLog


class _Actor:
    """Adapts a ShardWorker to `map_batches`: one group of shards a batch.

    The worker is built with the first group: of what an actor's constructor raises, Ray keeps the text
    alone, and one that is killed in it is not started again.
    """

    def __init__(
        self,
        worker_class: type[ShardWorker],
        arguments: Mapping[str, object],
        threads: int,
        counts: Place,
        work: Work,
    ) -> None:
        torch.set_num_threads(threads)  # the actor's process is its own
        self.build = partial(worker_class, **arguments)
        self.worker: ShardWorker | None = None
        self.counts = counts / f"{uuid.uuid4().hex}.json"
        self.log = WorkerLog(work)
        self.group = GroupWork(counts / DONE, self._shard)
        self.began = {"starts": 0, "restarts": 0}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        self.began = {"starts": 0, "restarts": 0}
        with in_background(self._count):
            facts = self.group([int(shard) for shard in batch["shards"][0]])
        return {
            "did": [{**self.began, **done_since()}],
            "shards": [len(facts)],
            "rows": [sum(fact["rows"] for fact in facts)],
            "seconds": [sum(fact["seconds"] for fact in facts)],
            "cut": [sum(fact.get("cut", 0) for fact in facts)],
            "peak_mb": [peak_mb()],
            "node": [socket.gethostname()],
        }

    def _shard(self, shard: int) -> ShardFacts:
        again = self.worker is None and _started_again()
        with self.log.kept(f"shard {shard}", shard):
            if self.worker is None:
                self.began = {"starts": 1, "restarts": int(again)}
                self.worker = self.build()
            return self.worker(shard)

    def _count(self, stop: Event) -> None:
        """Leave the number of rows that this process has seen, once a second, for whoever shows it."""
        written = 0
        while not stop.wait(pace(self.counts, 1.0)):
            if seen.rows != written:
                written = seen.rows
                with suppress(OSError):  # the work itself says what is wrong with the disk
                    write_json(self.counts, written)


def map_shards(
    worker_class: type[ShardWorker],
    arguments: Mapping[str, object],
    shards: Sequence[int],
    study: ClusterAndLog,
    label: str,
    gpu: bool = False,
    light: bool = False,
    rows: int = 0,
    passes: int = 1,
) -> Totals:
    """Run the worker over `shards` in an actor pool; return the totals.

    `arguments` must be picklable. An exception in a worker ends the run with that exception, and a
    worker that keeps dying with FailedError.
    `light` work on few shards is done in this process: it ends before an actor would have started. On
    many it is done in few tasks.
    rows, passes: how many rows there are in all and how often a model sees each, to show how far it is.
    """
    totals = Totals(rows=0, seconds=0.0, cut=0, peak_mb=0.0, nodes={})
    if not shards:
        return totals
    metrics = StageMetrics(study.log.study, label)
    if light and len(shards) <= FEW_SHARDS:
        with (
            cpu_threads(study.cluster.threads),
            study.log.progress(label, len(shards), "shards") as advance,
        ):
            here = worker_class(**arguments)
            for shard in shards:
                facts = here(shard)
                _add(totals, facts)
                metrics.add_here({"shards": 1, **_counted(facts)})
                advance(1)
        totals["peak_mb"] = peak_mb()
        return totals
    groups = groups_of(shards, study.cluster.actors, light)
    size = min(study.cluster.actors, len(groups))
    most = min(max(size, study.cluster.most_actors), len(groups))
    resources = dict(study.cluster.actor_resources)
    if not gpu:
        resources.pop("num_gpus", None)
    counts = study.log.run_dir / "rows-seen"
    remove_folder(counts)
    begin_logs(logs := work_of(study.log, label))
    work = Activity(label, "shards", len(shards), "waiting for a worker, loading what it needs")
    work.part, work.parts_total = ("rows", rows) if rows else ("", 0)

    def count(activity: Activity) -> None:
        rows_seen = sum(read_json(path) for path in listed(counts, "*.json")) // passes
        if rows:
            activity.count(activity.done, parts=min(rows, rows_seen))
        elif rows_seen:
            activity.state = f"{rows_seen:,} rows so far"

    with failing(study.log, logs), lost_workers(label), _settings_of_ray_data():
        numbers = ray.data.from_items(
            [{"shards": group} for group in groups], override_num_blocks=len(groups)
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
                    "counts": counts,
                    "work": logs,
                },
                batch_size=1,
                # An actor that lost its node starts again where there is room, so idle ones make it.
                compute=ray.data.ActorPoolStrategy(
                    min_size=1,
                    max_size=most,
                    initial_size=size,
                    max_tasks_in_flight_per_actor=2,
                ),
                max_restarts=MAX_RESTARTS,
                **resources,
            )
        with study.log.watching(work, count):
            for row in results.iter_rows():
                _add(totals, row)
                totals["peak_mb"] = max(totals["peak_mb"], row["peak_mb"])
                totals["nodes"][row["node"]] = totals["nodes"].get(row["node"], 0) + row["shards"]
                work.advance(row["shards"])
                done = {**row["did"], "shards": row["shards"], **_counted(row)}
                metrics.add(done, row["node"])
                if row["did"]["restarts"]:
                    logs_of_lost = finish_logs(logs)
                    study.log.event("restart", stage=label, node=row["node"], logs=logs_of_lost)
                    study.log.say(f"a worker was lost, and started again on {row['node']}")
    study.log.event("shards", label=label, rows=totals["rows"], nodes=totals["nodes"])
    remove_folder(counts)
    return totals


def _started_again() -> bool:
    """Return whether Ray has started this actor in place of one that was lost."""
    with warnings.catch_warnings():
        # Deprecated, and Ray 2.60 has nothing in its place.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def _counted(facts: ShardFacts | Mapping[str, Any]) -> dict[str, float]:
    return {"rows": facts["rows"], "busy_seconds": facts["seconds"]}


def _add(totals: Totals, facts: ShardFacts | Mapping[str, Any]) -> None:
    totals["rows"] += facts["rows"]
    totals["seconds"] += facts["seconds"]
    totals["cut"] += facts.get("cut", 0)


@contextmanager
def _settings_of_ray_data() -> Iterator[None]:
    """Let Ray Data raise a worker's own exception and draw no bars; restore the host program's settings."""
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


def pending(folder: Place, pattern: str, count: int) -> list[int]:
    """Return the shards of 0..count-1 whose file (`pattern.format(shard)`) is not there yet."""
    begin, _, end = pattern.partition("{")
    there = {path.name for path in listed(folder, f"{begin}*{end.partition('}')[2]}")}
    return [shard for shard in range(count) if pattern.format(shard) not in there]
