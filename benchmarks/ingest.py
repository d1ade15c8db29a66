"""Reading of a large pool by workers against one reader: rows/s with one and two actors, and where the time goes.

Seconds are wall time of the whole call, and the same without the start of Ray Data's actors, which a pool of
a few rows takes as well. Each way must leave the same bytes.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path

import ray
from rich.console import Console

from benchmarks.lab import machine
from tis_ray.config import parse_config
from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.distributed.starting import start_here
from tis_ray.log import RunLog
from tis_ray.stages.context import Context
from tis_ray.stages.ingest import ingest
from tis_ray.stages.tokens import read_side
from tis_ray.store import Artifact

ROWS, FEW = 1_000_000, 4_000
PORTION = 8 << 20
ACTORS = (1, 2)


def write_pool(path: Path, rows: int) -> None:
    """Write rows of some 40 words, one in a hundred without an id, one in a thousand broken."""
    chance = random.Random(0)
    words = [f"word{n}" for n in range(5000)]
    with path.open("w") as file:
        for number in range(rows):
            text = chance.choices(words, k=40)
            row = {"prompt": " ".join(text[:30]), "completion": " ".join(text[30:])}
            named = row if number % 100 == 0 else {**row, "id": f"row-{number}"}
            file.write("{broken\n" if number % 1000 == 1 else json.dumps(named) + "\n")


def context(folder: Path, pool: Path, actors: int) -> Context:
    config = parse_config(
        {
            "name": "ingest",
            "runs": str(folder / "runs"),
            "artifacts": str(folder / "artifacts"),
            "model": {"name": "builtin"},
            "data": {
                "pool": {"path": str(pool)},
                "query": {"kind": "builtin", "skill": "plural", "rows": 2},
            },
            "budget": 1,
            "batch": {"shard_rows": 4096},
        }
    )
    cluster = Cluster(cpus=2, gpus=0, threads=1, gpus_per_actor=0, actors=actors)
    return Context(config, cluster, RunLog(folder, Console(quiet=True)))


def contents(artifact: Artifact) -> list[tuple[str, bytes]]:
    return [(file.name, file.read_bytes()) for file in sorted(artifact.path.glob("*.parquet"))]


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        pool, few = folder / "pool.jsonl", folder / "few.jsonl"
        write_pool(pool, ROWS)
        write_pool(few, FEW)
        print(f"  {machine()}; {ROWS:,} rows, {pool.stat().st_size / 1e6:.0f} MB")
        start = time.monotonic()
        whole = contents(read_side(context(folder / "whole", pool, 1).config, "pool"))
        alone = time.monotonic() - start
        print(f"  one reader      {alone:6.1f} s  {ROWS / alone:8,.0f} rows/s")
        with quiet_ray():
            by_workers(folder, pool, few, whole, alone)


def by_workers(
    folder: Path, pool: Path, few: Path, whole: list[tuple[str, bytes]], alone: float
) -> None:
    """Read by one and two actors; print what it takes beside `alone`, the seconds of one reader."""
    start_here(num_cpus=4, log_to_driver=False)
    after_start = {}
    for actors in ACTORS:
        seconds = {}
        for name, path in (("few", few), ("pool", pool)):
            own = context(folder / f"{name}-{actors}", path, actors)
            start = time.monotonic()
            artifact = ingest(own, 64 << 10 if name == "few" else PORTION)
            seconds[name] = time.monotonic() - start
        assert contents(artifact) == whole
        after_start[actors] = seconds["pool"] - seconds["few"]
        print(
            f"  {actors} actor(s)      {seconds['pool']:6.1f} s, of which the start {seconds['few']:.1f} s; "
            f"after it {ROWS / after_start[actors]:8,.0f} rows/s"
        )
    one, two = (after_start[actors] for actors in ACTORS)
    print(f"  one actor against one reader {alone / one:.2f}, two against one {one / two:.2f}")
    ray.shutdown()


if __name__ == "__main__":
    main()
