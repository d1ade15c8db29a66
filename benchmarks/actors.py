"""Two one-thread actors against one, through Ray Data; and what the machine allows.

Both figures are wall time: of the whole stage call (starting Ray Data's actors, loading the model
in each, every shard), and of the map from the moment its last actor holds the model. Beside them,
in the same repeats, the same worker in bare processes, one with all shards against two with half of
them each: two processes share caches, memory and clock, so no way of dealing out work gains more
than that on this machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.lab import machine, quiet
from benchmarks.ray_data import Timed
from benchmarks.stage import Stage, stage
from benchmarks.timing import seconds, spread, verdict
from tis_ray.distributed.shards import map_shards

SHARDS, SHARD_ROWS = 48, 256
REPEATS = 3
TARGET = ">= 1.8"


def through_ray(found: Stage, actors: int) -> tuple[float, float]:
    """Return wall seconds of the whole map, and of what followed its start-up."""
    with tempfile.TemporaryDirectory(dir=found.folder) as root:
        notes = Path(root) / "notes.jsonl"
        arguments = {"notes": notes, **found.arguments(root)}
        start = time.monotonic()
        map_shards(
            Timed,
            arguments,
            range(found.pool.shards),
            found.actors(actors, root),
            "",
            gpu=True,
        )
        end = time.monotonic()
        facts = [json.loads(line) for line in notes.read_text().splitlines()]
        return end - start, end - max(fact["ready"] for fact in facts if "ready" in fact)


def bare(found: Stage, processes: int) -> float:
    """Return wall seconds of the same shards in bare processes, all of which hold the model."""
    import cloudpickle

    with tempfile.TemporaryDirectory(dir=found.folder) as root:
        task = Path(root) / "task.pkl"
        task.write_bytes(cloudpickle.dumps(found.arguments(root)))
        shards = list(range(found.pool.shards))
        parts = [shards[k::processes] for k in range(processes)]
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.actors", str(task), json.dumps(part)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for part in parts
        ]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        start = time.monotonic()
        for worker in workers:  # each is told before any is waited for
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            worker.communicate()
        return time.monotonic() - start


def work(task: str, part: str) -> None:
    """Be one bare process: load, say so, wait for the word, and map the shards."""
    import cloudpickle

    from tis_ray.stages.featurize import Featurise

    quiet()
    os.nice(15)  # as Ray's workers
    worker = Featurise(**cloudpickle.loads(Path(task).read_bytes()))
    print("ready", flush=True)
    sys.stdin.readline()
    for shard in json.loads(part):
        worker(shard)


def main() -> None:
    quiet()
    print(f"  wall seconds; {machine()}")
    whole: dict[int, list[float]] = {1: [], 2: []}
    mapped: dict[int, list[float]] = {1: [], 2: []}
    alone: dict[int, list[float]] = {1: [], 2: []}
    loads = []
    with stage(SHARDS, SHARD_ROWS) as found:
        for repeat in range(REPEATS):
            for count in (1, 2) if repeat % 2 == 0 else (2, 1):
                loads.append(os.getloadavg()[0])
                all_of_it, after = through_ray(found, count)
                whole[count].append(all_of_it)
                mapped[count].append(after)
                alone[count].append(bare(found, count))
    print(
        f"  built-in model, {SHARDS} shards of {SHARD_ROWS} rows, {REPEATS} interleaved repeats; "
        f"load at the start of each {', '.join(f'{load:.1f}' for load in loads)}"
    )
    for count, walls in mapped.items():
        rate = SHARDS * SHARD_ROWS / statistics.median(walls)
        print(f"  {count} actor(s): {', '.join(seconds(w) for w in walls)}; {rate:.0f} rows/s")
    ceiling = [one / two for one, two in zip(alone[1], alone[2], strict=True)]
    print(f"  the machine's own: one bare process ÷ two = {spread(ceiling)}")
    verdict("one actor ÷ two, whole call", whole[1], whole[2], TARGET)
    verdict("one actor ÷ two, after start-up", mapped[1], mapped[2], TARGET)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(*sys.argv[1:])
    else:
        main()
