"""A study of any size with a featuriser that costs nothing: what planner, store, driver and selectors take.

The pool is made, not read; everything behind it is the real code, through Ray: the draw of the warm-up's rows,
features, the store, scores, round robin over score shards on disk, random subsets. Each step says what it took
of the driver, and how many files it wrote: in a bucket each is a put.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import ray
from rich.console import Console

from benchmarks.cheap import vectors
from benchmarks.cost import Cost, Costs
from benchmarks.lab import machine, quiet
from benchmarks.made_pool import made_side
from tis_ray.config import Config, parse_config
from tis_ray.distributed.connect import connect
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.distributed.shards import ShardFacts
from tis_ray.log import RunLog
from tis_ray.stages import featurize as features_stage
from tis_ray.stages import scores as scores_stage
from tis_ray.stages.cells import plan_cells
from tis_ray.stages.context import Context
from tis_ray.stages.feature_recipe import make_recipe
from tis_ray.stages.featurize import Featurise, featurize
from tis_ray.stages.ordering_artifact import StudyOrdering
from tis_ray.stages.rank_pool import order_all
from tis_ray.stages.rows_to_scores import Represented
from tis_ray.stages.score_workers import ScoreStreamed
from tis_ray.stages.scores import score_features, score_stream
from tis_ray.stages.warmup_rows import warmup_sample
from tis_ray.store.feature_store import FeatureShard

ROWS, QUERIES, BUDGET, ACTORS = 100_000, 8, 1000, 2
BYTES_A_ROW = 90
"""What a row takes on the disk beside its scores, with room to spare."""
TARGET_MB = 2000.0


def study(folder: Path, rows: int, scoring: str, shard_rows: int, actors: int) -> Config:
    """Return the study's config."""
    few = {"kind": "builtin", "skill": "reverse_word", "rows": 1}
    return parse_config(
        {
            "name": "pipeline",
            "runs": str(folder / "runs"),
            "artifacts": str(folder / "artifacts"),
            "data": {"pool": {"kind": "builtin", "rows": 1}, "query": few, "test": few},
            "representation": ["benchmarks.cheap:CHEAP", "less"],
            "selector": "round_robin",
            "budget": min(BUDGET, rows),
            "settings": {"cheap": {"scoring": scoring}},
            "less": {"warmup": {"share": 1e-4, "min_rows": 1}},
            "batch": {"shard_rows": shard_rows, "threads": 1},
            "compute": {"actors": actors},
            "tracking": {"enabled": False},
        }
    )


class CheapFeaturise(Featurise):
    """The stage's worker; rows become features column by column, and never Python values one by one."""

    def __call__(self, number: int) -> ShardFacts:
        """Featurise all rows of a shard; query shards are numbered -1, -2, ..."""
        start = time.monotonic()
        role, shard = ("query", -1 - number) if number < 0 else ("pool", number)
        table = self.reader.sides[role].token_table(shard, ["content", "response_tokens"])
        keys = table["content"].to_pylist()
        columns = {"response_tokens": table["response_tokens"].to_numpy()}
        found = FeatureShard(keys, vectors(keys)[:, None], {}, columns)
        self.store.write(role, found, "float32" if role == "query" else self.dtype)
        return {"rows": len(keys), "seconds": time.monotonic() - start}


class CheapScoreStreamed(ScoreStreamed):
    """The same of the stage that keeps no features."""

    def __call__(self, shard: int) -> ShardFacts:
        """Write the scores of one pool shard."""
        start = time.monotonic()
        table = self.reader.sides["pool"].token_table(shard, ["row", "content"])
        scored = self.queries.score(vectors(table["content"].to_pylist())[:, None])
        count = self.write(shard, table["row"].to_numpy(), scored, {})
        return {"rows": count, "seconds": time.monotonic() - start}


@contextmanager
def cheap_workers() -> Iterator[None]:
    """Let the stages use these workers meanwhile."""
    with ExitStack() as patches:
        for module, name, other in (
            (features_stage, "Featurise", CheapFeaturise),
            (scores_stage, "ScoreStreamed", CheapScoreStreamed),
        ):
            patches.enter_context(patch.object(module, name, other))
        yield


class Pipeline:
    """The steps; each uses what the ones before it left. A step that fails is said, and the next is tried."""

    def __init__(self, context: Context, rows: int) -> None:
        self.context, self.config = context, context.config
        self.costs = Costs(Path(self.config.artifacts))
        self.method = self.config.method(self.config.representation[0])
        with self.costs.of("making the pool"):
            self.pool = made_side(context, "pool", rows)
        self.query = made_side(context, "query", QUERIES)
        self.orderings: list[StudyOrdering] = []

    def warm_up_rows(self) -> None:
        """Draw the rows that a warm-up would be trained on."""
        less = self.config.method("less")
        warmup = less.warmup(self.config.settings_of(less))
        assert warmup is not None
        warmup_sample(warmup, self.context, self.config.model, self.pool)

    def features(self) -> None:
        """Featurise pool and queries, or the queries alone."""
        self.recipe = make_recipe(self.method, self.context, self.pool)
        sides = {"query": self.query}
        if self.method.scoring(self.recipe.of.settings) == "store":
            sides["pool"] = self.pool
        self.made = featurize(self.recipe, sides, self.context)

    def scores(self) -> None:
        """Score the pool."""
        sides = {"query": self.query, "pool": self.pool}
        stored = "pool" in self.made.shards
        self.scored = (
            score_features(self.made, self.made, self.context)
            if stored
            else score_stream(self.recipe, self.made, sides, self.context)
        )

    def orderings_of(self) -> None:
        """Rank the pool by round robin."""
        kept = self.made if "pool" in self.made.shards else None
        represented = Represented(self.method, kept, self.scored)
        self.orderings = order_all(represented, self.context, self.pool, self.query)

    def subsets(self) -> None:
        """Plan the cells: draw the random subsets."""
        plan_cells(self.config, self.pool, self.orderings)

    def run(self, skipped: Container[str] = ()) -> list[Cost]:
        """Take all steps but those that are skipped; return what each cost."""
        steps: dict[str, Callable[[], None]] = {
            "warm-up rows": self.warm_up_rows,
            "features": self.features,
            "scores": self.scores,
            "ordering": self.orderings_of,
            "random subsets": self.subsets,
        }
        print(line_of(None, self.pool.usable), flush=True)
        print(line_of(self.costs.steps[0], self.pool.usable), flush=True)
        for name, step in steps.items():
            if name in skipped:
                continue
            try:
                with self.costs.of(name) as cost:
                    step()
            except Exception as error:  # one step that does not scale hides no other
                traceback.print_exc()
                print(f"  {name}: FAILED: {error}", flush=True)
                continue
            print(line_of(cost, self.pool.usable), flush=True)
        return self.costs.steps


def line_of(cost: Cost | None, rows: int) -> str:
    """Return a line of the table; its head for None."""
    if cost is None:
        names = ("wall s", "driver s", "own s", "us a row", "all CPU s", "peak MB", "files", "GB")
        return f"  {'step':<18}" + "".join(f"{name:>11}" for name in names)
    values = (
        f"{cost.wall:,.1f}",
        f"{cost.driver:,.2f}",
        f"{cost.own:,.2f}",
        f"{1e6 * cost.own / rows:,.2f}",
        f"{cost.everybody:,.1f}",
        f"{cost.peak_mb:,.0f}",
        f"{cost.files:,}",
        f"{cost.gigabytes:,.3f}",
    )
    return f"  {cost.name:<18}" + "".join(f"{value:>11}" for value in values)


def measure(
    rows: int,
    scoring: str,
    shard_rows: int,
    actors: int,
    folder: Path,
    skipped: Container[str] = (),
) -> list[Cost]:
    """Run the pipeline in a folder, print its table, and return what each step cost."""
    config = study(folder, rows, scoring, shard_rows, actors)
    with quiet_ray(), cheap_workers():
        context = Context(config, connect(config), RunLog(folder / "log", Console(file=sys.stderr)))
        print(
            f"  {rows:,} rows, {QUERIES} queries, shards of {shard_rows:,} rows, "
            f"{context.cluster.actors} actor(s), scoring: {scoring}",
            flush=True,
        )
        costs = Pipeline(context, rows).run(skipped)
    most = max(cost.peak_mb for cost in costs)
    own = sum(cost.own for cost in costs[1:])
    print(
        f"  driver without its waiting for workers: {own:.1f} s of CPU, {1e6 * own / rows:.2f} us a row; peak {most:,.0f} MB; "
        f"target <= {TARGET_MB:,.0f} MB: {'met' if most <= TARGET_MB else 'MISSED'}; "
        f"{sum(cost.files for cost in costs):,} files"
    )
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks pipeline", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--scoring", choices=["store", "stream"], default="store")
    parser.add_argument("--shard-rows", type=int, help="rows of a shard; by default a 1000th")
    parser.add_argument("--actors", type=int, default=ACTORS)
    parser.add_argument("--folder", help="where to work; what is complete there is used")
    parser.add_argument("--skip", action="append", default=[], help="a step to leave out")
    options = parser.parse_args()
    quiet()
    print(f"  {machine()}")
    shard_rows = options.shard_rows or max(1000, options.rows // 1000)
    needed = options.rows * (BYTES_A_ROW + 4 * QUERIES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < 1.25 * needed:
            sys.exit(f"pipeline: needs {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free")
        try:
            measure(options.rows, options.scoring, shard_rows, options.actors, folder, options.skip)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
