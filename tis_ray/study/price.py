"""What a study will cost, before it is paid for: measured on a few rows, extrapolated to all.

The pool is read (its size is needed) but only a sample of it is tokenised, featurised and trained on,
by one actor with the resources that the stages' actors get. Everything else is multiplication:
seconds a token, tokens a row, rows. What is not in it: starting Ray, loading the model once for each
actor, and waiting for other users of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tis_ray.config import Config, plan
from tis_ray.distributed.connect import Cluster, connect
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.distributed.task import run_task
from tis_ray.evaluation import read_tasks
from tis_ray.representations import Representation
from tis_ray.settings.grid import points
from tis_ray.stages.recipe import reading_model
from tis_ray.stages.tokens import read_side
from tis_ray.store import fingerprint
from tis_ray.store.sides import SIDES, SideName
from tis_ray.study.sample import measure_sample, methods_of

BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.5, "int2": 0.25}


@dataclass(frozen=True)
class StagePrice:
    """The estimate for one stage: `seconds` is the sum over actors, `gigabytes` what it writes.

    made_from: names what it is made from and how, where several studies can have it in common.
    """

    stage: str
    rows: int
    tokens: float
    seconds: float
    gigabytes: float = 0.0
    made_from: str | None = None

    def __add__(self, other: StagePrice) -> StagePrice:
        """Return the price of the stage in two studies."""
        return StagePrice(
            self.stage,
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.seconds + other.seconds,
            self.gigabytes + other.gigabytes,
        )


@dataclass(frozen=True)
class Price:
    """The estimate for a study."""

    stages: list[StagePrice]
    actors: int
    threads: int
    device: str
    sample: int
    spread: float
    """Half the 95% interval of tokens a row, as a share: how far the sample may mislead."""

    @property
    def seconds(self) -> float:
        """Wall time, with every actor busy."""
        return sum(stage.seconds for stage in self.stages) / self.actors

    @property
    def device_hours(self) -> float:
        """GPU-hours, or CPU-core-hours without a GPU."""
        each = 1 if self.device == "cuda" else self.threads
        return sum(stage.seconds for stage in self.stages) * each / 3600


def price(config: Config) -> Price:
    """Measure a sample and return what all studies of a file would cost.

    Studies that train and read with the same models and settings are measured once.
    """
    studies = list(plan(config).values())
    rows = [{side: read_side(study, side) for side in SIDES} for study in studies]
    measured: dict[str, dict[str, Any]] = {}
    prices = []
    for study, sides in zip(studies, rows, strict=True):
        cluster = connect(study)
        key = _measured_by(study)
        if key not in measured:
            with quiet_ray():
                measured[key] = run_task(
                    measure_sample, study, sides, cluster.device, cluster=cluster
                )
        counts = {side: artifact.manifest().rows for side, artifact in sides.items()}
        prices.append(estimate(study, counts, measured[key], cluster))
    return in_all(prices)


def _measured_by(config: Config) -> str:
    """Return what names a measurement: all that decides seconds, widths and bytes."""
    return fingerprint(
        {
            "pool": _tokens_of(config),
            "batch": config.batch.model_dump(mode="json"),
            "finetune": config.finetune.model_dump(
                mode="json", include={"method", "lora", "micro_tokens", "packed"}
            ),
            "methods": [
                method.identity(config.settings_of(method)) for method in methods_of(config)
            ],
            "answers": config.evaluation.model_dump(
                mode="json", include={"metrics", "tasks", "max_new_tokens"}
            ),
        }
    )


def _tokens_of(config: Config, method: Representation | None = None) -> dict[str, Any]:
    """Return what decides the pool's tokens, as the model of a representation reads them."""
    model = config.model if method is None else reading_model(method, config)
    data = config.data.model_dump(mode="json", include={"pool", "template", "max_length"})
    return {"data": data, "model": model.model_dump(mode="json")}


def estimate(
    config: Config, counts: dict[SideName, int], facts: dict[str, Any], cluster: Cluster
) -> Price:
    """Extrapolate what `measure_sample` found to all rows of one study."""
    pool, query, test = (counts[side] for side in SIDES)
    each = facts["tokens_per_row"]
    stages = [
        StagePrice(
            "tokens",
            pool,
            pool * each,
            pool * facts["tokenise"],
            8e-9 * pool * each,
            fingerprint({"tokens": _tokens_of(config)}),
        )
    ]
    for method in methods_of(config):
        settings = config.settings_of(method)
        tokens_of = _tokens_of(config, method)
        features = fingerprint({"tokens": tokens_of, "method": method.identity(settings)})
        scores = fingerprint(
            {"features": features, "query": config.data.query.model_dump(mode="json")}
        )
        name, warmup, cascade = method.name, method.warmup(settings), method.cascade(settings)
        if warmup is not None and warmup.checkpoints is None:
            rows = min(pool, max(warmup.min_rows, round(warmup.share * pool)))
            tokens = rows * each * warmup.training.epochs
            warmed = fingerprint({"tokens": tokens_of, "warmup": repr(warmup)})
            stages.append(
                StagePrice("warm-up", rows, tokens, tokens * facts["train"], made_from=warmed)
            )
        passes = warmup.training.epochs if warmup is not None else 1
        rows = query + (pool if cascade is None else round(pool * cascade.keep) + cascade.sample)
        stores = method.gives == "vectors" and method.scoring(settings) == "store"
        width = facts["width"].get(name, 0) * passes
        size = width * BYTES[method.dtype(settings)] if stores else 0.0
        tokens, seconds = rows * each * passes, rows * passes * facts["feature"][name]
        stages.append(
            StagePrice(f"features {name}", rows, tokens, seconds, rows * size * 1e-9, features)
        )
        flops = 2.0 * query * rows * width
        stages.append(
            StagePrice(
                f"scores {name}", rows, 0, flops / facts["flops"], 4e-9 * query * rows, scores
            )
        )
    methods = 1 + sum(
        1 if config.method(name).gives == "ordering" else len(config.selectors(name))
        for name in config.representation
    )
    size = each if config.budget_unit == "tokens" else 1
    trained = round(methods * len(config.seed) * sum(config.budget) / size)
    models = methods * len(config.seed) * len(config.budget)
    if config.quantiles is not None:
        bins = config.quantiles.bins * (2 if config.quantiles.focus else 1)
        parts = len(config.representation) * bins * len(config.seed)
        trained, models = trained + parts * config.quantiles.rows, models + parts
    tokens = trained * each * config.finetune.epochs
    if config.search is not None:
        combinations = len(points(config.search.over))
        trials = min(combinations, config.search.trials or combinations)
        rows = trials * min(pool, config.search.rows or round(max(config.budget) / size))
        tried = rows * each * config.finetune.epochs
        asked = trials * config.finetune.epochs * query * facts["loss"]
        stages.append(StagePrice("search", rows, tried, tried * facts["finetune"] + asked))
    saved = models * facts["saved"] if config.finetune.save else 0.0
    stages.append(
        StagePrice("fine-tune", trained, tokens, tokens * facts["finetune"], 1e-9 * saved)
    )
    models += 2  # zero-shot, with and without template
    # An answer's time is nearly all in its tokens.
    answers = test * bool(config.evaluation.metrics) + sum(
        len(task.rows) * task.asking.max_new_tokens / config.evaluation.max_new_tokens
        for task in read_tasks(config.evaluation.tasks)
    )
    stages.append(
        StagePrice(
            "evaluate",
            models * (query + test),
            models * (query + test) * facts["target_tokens"],
            models * ((query + test) * facts["loss"] + answers * facts["answer"]),
        )
    )
    return Price(
        stages, cluster.actors, cluster.threads, cluster.device, facts["sample"], facts["spread"]
    )


def in_all(prices: Sequence[Price]) -> Price:
    """Return the price of several studies, in which what some have in common is made once."""
    made: set[str] = set()
    stages: dict[str, StagePrice] = {}
    for stage in (stage for found in prices for stage in found.stages):
        if stage.made_from is not None:
            if stage.made_from in made:
                continue
            made.add(stage.made_from)
        before = stages.get(stage.stage)
        stages[stage.stage] = stage if before is None else before + stage
    return replace(prices[0], stages=list(stages.values()))


def print_price(found: Price, console: Console) -> None:
    """Print the estimate, stage by stage."""
    unit = "GPU-hours" if found.device == "cuda" else "core-hours"
    each = 1 if found.device == "cuda" else found.threads
    table = Table(
        title=f"estimate: measured on {found.sample} pool rows, {found.actors} actor(s) on {found.device}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for column in ("stage", "rows", "tokens", "hours", unit, "GB"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    total = StagePrice(
        "in all",
        0,
        sum(stage.tokens for stage in found.stages),
        sum(stage.seconds for stage in found.stages),
        sum(stage.gigabytes for stage in found.stages),
    )
    for stage in (*found.stages, total):
        hours = stage.seconds / 3600
        table.add_row(
            stage.stage,
            f"{stage.rows:,}" if stage.rows else "",
            f"{stage.tokens:,.0f}" if stage.tokens else "",
            f"{hours / found.actors:.3g}",
            f"{hours * each:.3g}",
            f"{stage.gigabytes:.3g}",
            style="bold" if stage is total else None,
        )
    console.print(table)
    console.print(
        f"tokens a row: ± {found.spread:.0%} (95%, from {found.sample} rows); not counted: starting "
        "Ray, loading models, tasks of lm-eval, other users of the machine",
        highlight=False,
    )
