"""What Ray Data costs: one actor of it against a bare loop over the same shards in one process.

Both call the stage's own worker for each shard and write the same files. The path through Ray is
timed from the moment its actor holds the model to the end of the map, the bare loop from the moment
this process holds the model; what it takes to get there is printed beside them. Wall time is what
a user waits for, and CPU time of the working process is what other work on the machine leaves alone.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.lab import machine, quiet
from benchmarks.stage import Stage, stage
from benchmarks.timing import seconds, verdict
from tis_ray.distributed.shards import map_shards
from tis_ray.stages.featurize import Featurise

SHARDS, SHARD_ROWS = 24, 256
REPEATS = 3
TARGET = "<= 1.1"


class Timed(Featurise):
    """The stage's worker; notes when it was ready, and the CPU time of its process since then."""

    def __init__(self, notes: Path, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.notes, self.cpu = notes, time.process_time()
        self._note(ready=time.monotonic())

    def __call__(self, number: int) -> dict[str, Any]:
        facts = super().__call__(number)
        self._note(cpu=time.process_time() - self.cpu)
        return facts

    def _note(self, **facts: float) -> None:
        with self.notes.open("a") as file:
            file.write(json.dumps(facts) + "\n")


def through_ray(found: Stage) -> dict[str, float]:
    """Return wall seconds of start-up and of the map after it, and the actor's CPU seconds."""
    with tempfile.TemporaryDirectory(dir=found.folder) as root:
        notes = Path(root) / "notes.jsonl"
        arguments = {"notes": notes, **found.arguments(root)}
        start = time.monotonic()
        shards = range(found.pool.shards)
        map_shards(Timed, arguments, shards, found.actors(1, root), "", gpu=True)
        return _times(start, time.monotonic(), notes)


def bare(found: Stage) -> dict[str, float]:
    """Return the same for a loop in this process."""
    with tempfile.TemporaryDirectory(dir=found.folder) as root:
        notes = Path(root) / "notes.jsonl"
        start = time.monotonic()
        worker = Timed(notes, **found.arguments(root))
        for shard in range(found.pool.shards):
            worker(shard)
        return _times(start, time.monotonic(), notes)


def _times(start: float, end: float, notes: Path) -> dict[str, float]:
    facts = [json.loads(line) for line in notes.read_text().splitlines()]
    ready = facts[0]["ready"]
    return {"start-up": ready - start, "work": end - ready, "cpu": facts[-1]["cpu"]}


def main() -> None:
    quiet()
    print(f"  {machine()}")
    runs: dict[str, list[dict[str, float]]] = {"Ray Data, one actor": [], "bare loop": []}
    loads = []
    with stage(SHARDS, SHARD_ROWS) as found:
        bare(found)  # this process imports what it needs, as the actor has in its start-up
        for _ in range(REPEATS):
            for name, work in zip(runs, (through_ray, bare), strict=True):
                loads.append(os.getloadavg()[0])
                runs[name].append(work(found))
    print(
        f"  built-in model, {SHARDS} shards of {SHARD_ROWS} rows, {REPEATS} interleaved repeats; "
        f"load at the start of each {', '.join(f'{load:.1f}' for load in loads)}"
    )
    for name, facts in runs.items():
        shown = {k: seconds(statistics.median(f[k] for f in facts)) for k in facts[0]}
        print(f"  {name}: start-up {shown['start-up']}, then {shown['work']}, CPU {shown['cpu']}")
    for name, key in (("wall", "work"), ("CPU of the working process", "cpu")):
        ours, peer = ([fact[key] for fact in facts] for facts in runs.values())
        verdict(f"Ray Data ÷ bare loop, {name}", ours, peer, TARGET)


if __name__ == "__main__":
    main()
