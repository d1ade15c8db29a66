"""The featurisation stage end to end through Ray Data, with two one-thread actors against one.

Wall time of the whole stage: starting the actors, loading the model in each, every shard, and the
view written at the end. Nothing is subtracted; there are enough shards for the start to be a small
part. Other work on the machine takes cores from the two actors first, so the load is printed too.
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
    with stage(SHARDS, SHARD_ROWS) as found:
        loads: list[float] = []

        def run(actors: int) -> None:
            loads.append(os.getloadavg()[0])
            found.featurize(actors)

        times = interleaved({"one": lambda: run(1), "two": lambda: run(2)}, REPEATS, time.monotonic)
    print(
        f"  built-in model, {SHARDS} shards of {SHARD_ROWS} rows, {REPEATS} interleaved repeats; "
        f"load at the start of each {', '.join(f'{load:.1f}' for load in loads)}"
    )
    for name, walls in times.items():
        rate = SHARDS * SHARD_ROWS / statistics.median(walls)
        each = ", ".join(seconds(wall) for wall in walls)
        print(f"  {name}: {each}; {rate:.0f} rows/s")
    verdict("one actor ÷ two", times["one"], times["two"], TARGET)


if __name__ == "__main__":
    main()
