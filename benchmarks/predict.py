"""The price of a study against what it takes: CPU seconds of driver and workers, with one, two and four actors.

CPU time, because it says the same on a machine that others use. What the dry run measures on its sample is measured
in CPU time here, too. Ray's own daemons, and workers that are never given anything, are left out: the price says so.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import ray
from rich.console import Console

from benchmarks.cost import Cost, Costs
from benchmarks.lab import machine, quiet
from benchmarks.score_shards import local_ray
from tests.small import small_study
from tis_ray import run
from tis_ray.config import Config, parse_config
from tis_ray.data.sampled import sample_side
from tis_ray.distributed.connect import Cluster
from tis_ray.store.sides import SIDES
from tis_ray.study import sample, time_screen, timed
from tis_ray.study.measured import Measured
from tis_ray.study.price import OTHERS, estimate
from tis_ray.study.price import ROWS as SAMPLED
from tis_ray.study.priced import Price

ROWS, SHARD_ROWS, ACTORS, REPEATS = 4000, 256, (1, 2, 4), 3
WITHIN = 0.2


def study(folder: Path, rows: int, actors: int) -> Config:
    """Return a study of RDS+, up to its selection."""
    changes = {"data__pool": {"kind": "builtin", "rows": rows}, "representation": "rds"}
    changes |= {"batch__shard_rows": SHARD_ROWS, "compute__actors": actors}
    return parse_config(small_study(folder, **changes))


def prices(rows: int) -> dict[int, Price]:
    """Return what the dry run would say, by number of actors."""
    config = study(Path("unused"), rows, 1)
    facts = facts_by_cpu_time(config)
    counts = {side: sample_side(config.data.side(side), side, 1).usable_rows for side in SIDES}
    return {
        actors: estimate(config, counts, facts, Cluster(actors, 0, 1, 0, actors), trained=False)
        for actors in ACTORS
    }


def facts_by_cpu_time(config: Config) -> Measured:
    """Return what a dry run measures on a sample, with this process's CPU time for a clock."""
    rows = {
        side: sample_side(
            config.data.side(side), side, SAMPLED if side == "pool" else OTHERS
        ).usable
        for side in SIDES
    }
    clock = SimpleNamespace(monotonic=time.process_time)
    with ExitStack() as patches:
        for module in (sample, timed, time_screen):
            patches.enter_context(patch.object(module, "time", clock))
        facts = sample.measure_sample(config, rows, "cpu")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import tis_ray.study.sample"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts["start"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return facts


def taken(rows: int, actors: int) -> Cost:
    """Run the study up to its selection; return what it took."""
    with tempfile.TemporaryDirectory() as folder:
        config = study(Path(folder), rows, actors)
        costs = Costs(Path(folder))
        with costs.of(f"{actors} actors"):
            run(config, until="select", console=Console(file=io.StringIO()))
        return costs.steps[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks predict", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    quiet()
    print(f"  {machine()}")
    expected = prices(options.rows)
    one = expected[1]
    for stage in one.stages:
        print(
            f"  {stage.stage:<18} {stage.seconds:8.1f} s of actors, {stage.driver:6.2f} s of the driver"
        )
    found: dict[int, list[float]] = {actors: [] for actors in ACTORS}
    with local_ray(max(ACTORS)):
        for _ in range(options.repeats):
            for actors in ACTORS:
                cost = taken(options.rows, actors)
                found[actors].append(cost.driver + cost.workers)
                print(
                    f"  {actors} actor(s): {cost.wall:.0f} s of wall time; CPU: driver {cost.driver:.1f} s, "
                    f"workers {cost.workers:.1f} s, with Ray's own {cost.everybody:.1f} s",
                    flush=True,
                )
    for actors, seconds in found.items():
        price = expected[actors]
        said = sum(stage.seconds for stage in price.stages) + price.driver_seconds
        measured = statistics.median(seconds)
        met = "within" if abs(said / measured - 1) <= WITHIN else "NOT within"
        print(
            f"  {actors} actor(s): predicted {said:.1f} s, measured {measured:.1f} s "
            f"({', '.join(f'{each:.1f}' for each in seconds)}), ratio {said / measured:.2f}: {met} {WITHIN:.0%}"
        )
    ray.shutdown()


if __name__ == "__main__":
    main()
