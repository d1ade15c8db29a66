"""The featurisation stage on a pool of built-in rows, for the benchmarks that time it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from benchmarks.lab import checkpoint
from tis_ray.config import parse_config
from tis_ray.distributed.connect import connect
from tis_ray.log import RunLog
from tis_ray.settings import ModelConfig
from tis_ray.stages.context import Context
from tis_ray.stages.feature_recipe import Recipe, make_recipe
from tis_ray.stages.featurize import featurize
from tis_ray.stages.tokens import prepare_side, read_side
from tis_ray.store.feature_store import FeatureStore
from tis_ray.store.sides import Side


@dataclass(frozen=True)
class Stage:
    """What `featurize` needs, with tokens already there; Ray is up."""

    recipe: Recipe
    pool: Side
    context: Context
    folder: Path

    def actors(self, count: int, root: str) -> Context:
        """The study with this many one-thread actors to a stage, and its artifacts in `root`."""
        config = self.context.config.model_copy(update={"artifacts": root})
        return Context(config, replace(self.context.cluster, actors=count), self.context.log)

    def featurize(self, actors: int) -> None:
        """Run the whole stage into a store of its own."""
        with tempfile.TemporaryDirectory(dir=self.folder) as root:
            featurize(self.recipe, {"pool": self.pool}, self.actors(actors, root))

    def arguments(self, root: str) -> dict[str, Any]:
        """Arguments of the stage's worker, for every row and a store in `root`."""
        shards = range(self.pool.shards)
        return {
            "recipe": self.recipe,
            "sides": {"pool": self.pool},
            "store": FeatureStore(root, self.recipe.space),
            "missing": dict.fromkeys(shards),
        }


@contextmanager
def stage(shards: int, shard_rows: int) -> Iterator[Stage]:
    """Yield the stage of a study over this pool, LESS at one checkpoint; stop Ray afterwards."""
    with checkpoint(ModelConfig()) as path, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = parse_config(
            {
                "runs": str(folder / "runs"),
                "artifacts": str(folder / "artifacts"),
                "data": {
                    "pool": {"kind": "builtin", "rows": shards * shard_rows},
                    "query": {"kind": "builtin", "skill": "reverse_word", "rows": 1},
                    "test": {"kind": "builtin", "skill": "reverse_word", "rows": 1},
                    "max_length": 128,
                },
                "less": {"warmup": {"checkpoints": str(path.parent)}},
                "budget": 1,
                "batch": {"shard_rows": shard_rows, "threads": 1},
                "tracking": {"enabled": False},
            }
        )
        log = RunLog(folder / "log", Console(file=io.StringIO()))
        context = Context(config, connect(config), log)
        try:
            pool = prepare_side(context, "pool", read_side(config, "pool"))
            recipe = make_recipe(config.method("less"), context, pool)
            yield Stage(recipe, pool, context, folder)
        finally:
            ray.shutdown()
