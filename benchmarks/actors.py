"""The featurisation stage end to end through Ray Data, with two one-thread actors against one.

Wall time of the whole stage: starting the actors, loading the model in each, every shard, and the
view written at the end. Nothing is subtracted; there are enough shards for the start to be a small
part. Ray's workers run at a low priority, so any other work on the machine takes cores from the two
actors first; hence the load beside each figure.
"""

from __future__ import annotations

import os
import statistics
import time

from benchmarks.lab import machine, quiet
from benchmarks.stage import stage
from benchmarks.timing import interleaved, seconds, verdict

SHARDS, SHARD_ROWS = 96, 256
REPEATS = 3
TARGET = ">= 1.8"


def main() -> None:
    quiet()
    print(f"  wall seconds; {machine()}")
    loads: dict[str, list[float]] = {"one": [], "two": []}
    with stage(SHARDS, SHARD_ROWS) as found:

        def run(name: str, actors: int) -> None:
            loads[name].append(os.getloadavg()[0])
            found.featurize(actors)

        times = interleaved(
            {"one": lambda: run("one", 1), "two": lambda: run("two", 2)}, REPEATS, time.monotonic
        )
    print(
        f"  built-in model, {SHARDS} shards of {SHARD_ROWS} rows, {REPEATS} interleaved repeats; "
        "in brackets the load when a run began, which the run before it is part of"
    )
    for name, walls in times.items():
        each = ", ".join(
            f"{seconds(w)} ({load:.1f})" for w, load in zip(walls, loads[name], strict=True)
        )
        rate = SHARDS * SHARD_ROWS / statistics.median(walls)
        print(f"  {name}: {each}; {rate:.0f} rows/s")
    verdict("one actor ÷ two", times["one"], times["two"], TARGET)


if __name__ == "__main__":
    main()
