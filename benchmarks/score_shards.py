"""Scores in shard files and actors that hold them, for the benchmarks of the selector stage."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import ray

from tis_ray.distributed import held_scores as stage
from tis_ray.distributed.held_scores import ShardRef
from tis_ray.distributed.quiet import quiet_ray

CLUSTERS = 8
BLOCK = 2**17


def write_scores(folder: Path, queries: int, candidates: int, shards: int) -> list[ShardRef]:
    """Write float32 scores with the spread of LESS cosines; queries come in groups that agree.

    Generated in blocks, so that memory does not grow with the pool.
    """
    rng, refs = np.random.default_rng(0), []
    bounds = [candidates * shard // shards for shard in range(shards + 1)]
    for start, stop in pairwise(bounds):
        path = folder / f"scores-{start:010d}.npy"
        scores_Mn = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float32, shape=(queries, stop - start)
        )
        for begin in range(0, stop - start, BLOCK):
            part_Mb = scores_Mn[:, begin : begin + BLOCK]
            taste = rng.standard_normal((CLUSTERS, part_Mb.shape[1]), dtype=np.float32)
            own = rng.standard_normal(part_Mb.shape, dtype=np.float32)
            part_Mb[:] = 0.05 * taste[np.arange(queries) % CLUSTERS] + 0.03 * own
        scores_Mn.flush()
        refs.append(ShardRef(str(path), start, stop))
    return refs


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """Run Ray on this machine."""
    with quiet_ray():
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=400 * 2**20,
            log_to_driver=False,
            logging_level="warning",
        )
        try:
            yield
        finally:
            ray.shutdown()


@dataclass
class Traffic:
    """What went between the coordinator and the shards, pickled."""

    rounds: int = 0
    sent: int = 0
    received: int = 0
    waited: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds, {megabytes(self.sent)} sent, "
            f"{megabytes(self.received)} received"
        )


@contextmanager
def counted() -> Iterator[Traffic]:
    """Count what the stage sends and receives meanwhile."""
    ask, traffic = stage._ask, Traffic()

    def counting(actors: list[Any], run: Any, calls: list[Any]) -> list[Any]:
        start = time.monotonic()
        replies = ask(actors, run, calls)
        traffic.rounds += 1
        traffic.sent += size(calls)
        traffic.received += size(replies)
        traffic.waited += time.monotonic() - start
        return replies

    stage._ask = counting
    try:
        yield traffic
    finally:
        stage._ask = ask


def size(messages: list[Any]) -> int:
    """Return the bytes of messages, each pickled by itself."""
    return sum(len(pickle.dumps(message, protocol=5)) for message in messages)


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def peaks() -> dict[str, float]:
    """Return the peak resident memory in GB of this process and of each of its descendants."""
    parents, found = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines = (entry / "status").read_text().splitlines()
            except OSError:
                continue
            facts = dict(line.split(":", 1) for line in lines)
            parents[int(entry.name)] = int(facts["PPid"])
            found[int(entry.name)] = (facts["Name"].strip(), facts.get("VmHWM", "0 kB"))
    mine = os.getpid()
    told = {}
    for process, (name, peak) in found.items():
        above = process
        while above in parents and above != mine:
            above = parents[above]
        if above == mine:
            label = "driver" if process == mine else f"{name} {process}"
            told[label] = int(peak.split()[0]) * 1024 / 1e9
    return dict(sorted(told.items(), key=lambda item: -item[1]))
