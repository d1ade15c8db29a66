"""The price of a study before it is run: measured on a few rows, extrapolated to all.

The pool is read (its size is needed) but only a sample of it is tokenised, featurised and trained on,
by one actor with the resources that the stages' actors get. Everything else is multiplication:
seconds per token, tokens per row, rows. What is not in it: starting Ray, loading the model once for each
actor, and waiting for other users of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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
from tis_ray.stages.feature_recipe import reading_model
from tis_ray.stages.tokens import read_side
from tis_ray.store import fingerprint
from tis_ray.store.sides import SIDES, SideName
from tis_ray.study.sample import Measured, measure_sample, methods_of

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
    """Half the 95% interval of tokens per row, as a share: how far the sample may mislead."""

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
    measured: dict[str, Measured] = {}
    prices = []
    for study, sides in zip(studies, rows, strict=True):
        cluster = connect(study)
        key = _measured_by(study)
        if key not in measured:
            with quiet_ray():
                measured[key] = run_task(
                    "measuring a sample", cluster, measure_sample, study, sides, cluster.device
                )
        counts = {side: artifact.manifest().rows for side, artifact in sides.items()}
        prices.append(estimate(study, counts, measured[key], cluster))
    return total_price(prices)


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


def _tokens_of(config: Config, method: Representation | None = None) -> dict[str, object]:
    """Return what decides the pool's tokens, as the model of a representation reads them."""
    model = config.model if method is None else reading_model(method, config)
    data = config.data.model_dump(mode="json", include={"pool", "template", "max_length"})
    return {"data": data, "model": model.model_dump(mode="json")}


def estimate(
    config: Config, counts: Mapping[SideName, int], facts: Measured, cluster: Cluster
) -> Price:
    """Extrapolate the measurement of a sample to all rows of one study."""
    pool, tokens = counts["pool"], counts["pool"] * facts["tokens_per_row"]
    encoded = fingerprint({"tokens": _tokens_of(config)})
    stages = [
        StagePrice("tokens", pool, tokens, pool * facts["tokenise"], 8e-9 * tokens, encoded),
        *(p for m in methods_of(config) for p in _representation_prices(config, m, counts, facts)),
        *_training_prices(config, counts, facts),
    ]
    return Price(
        stages, cluster.actors, cluster.threads, cluster.device, facts["sample"], facts["spread"]
    )


def _representation_prices(
    config: Config, method: Representation, counts: Mapping[SideName, int], facts: Measured
) -> Iterator[StagePrice]:
    """Yield the prices of a representation's warm-up, features and scores."""
    pool, query, each = counts["pool"], counts["query"], facts["tokens_per_row"]
    settings = config.settings_of(method)
    tokens_of = _tokens_of(config, method)
    features = fingerprint({"tokens": tokens_of, "method": method.identity(settings)})
    scores = fingerprint({"features": features, "query": config.data.query.model_dump(mode="json")})
    name, warmup, cascade = method.name, method.warmup(settings), method.cascade(settings)
    if warmup is not None and warmup.trains:
        rows = min(pool, max(warmup.min_rows, round(warmup.share * pool)))
        tokens = rows * each * warmup.training.epochs
        warmed = fingerprint({"tokens": tokens_of, "warmup": repr(warmup)})
        yield StagePrice("warm-up", rows, tokens, tokens * facts["train"], made_from=warmed)
    passes = warmup.passes if warmup is not None else 1
    rows = query + (pool if cascade is None else round(pool * cascade.keep) + cascade.sample)
    stores = method.gives == "vectors" and method.scoring(settings) == "store"
    width = facts["width"].get(name, 0) * passes
    size = width * BYTES[method.dtype(settings)] if stores else 0.0
    tokens, seconds = rows * each * passes, rows * passes * facts["feature"][name]
    yield StagePrice(f"features {name}", rows, tokens, seconds, rows * size * 1e-9, features)
    seconds = 2.0 * query * rows * width / facts["flops"]
    yield StagePrice(f"scores {name}", rows, 0, seconds, 4e-9 * query * rows, scores)


def _training_prices(
    config: Config, counts: Mapping[SideName, int], facts: Measured
) -> Iterator[StagePrice]:
    """Yield the prices of the search, of fine-tuning and of evaluation."""
    pool, query, test = (counts[side] for side in SIDES)
    each = facts["tokens_per_row"]
    size = each if config.budget_unit == "tokens" else 1
    if config.search is not None:
        combinations = len(points(config.search.over))
        trials = min(combinations, config.search.trials or combinations)
        rows = trials * min(pool, config.search.rows or round(max(config.budget) / size))
        tried = rows * each * config.finetune.epochs
        losses = trials * config.finetune.epochs * query * facts["loss"]
        yield StagePrice("search", rows, tried, tried * facts["finetune"] + losses)
    methods = 1 + sum(
        1 if config.method(name).gives == "ordering" else len(config.selectors(name))
        for name in config.representation
    )
    trained = round(methods * len(config.seed) * sum(config.budget) / size)
    models = methods * len(config.seed) * len(config.budget)
    if config.quantiles is not None:
        bins = config.quantiles.bins * (2 if config.quantiles.focus else 1)
        parts = len(config.representation) * bins * len(config.seed)
        trained, models = trained + parts * config.quantiles.rows, models + parts
    tokens = trained * each * config.finetune.epochs
    saved = models * facts["saved"] if config.finetune.save else 0.0
    yield StagePrice("fine-tune", trained, tokens, tokens * facts["finetune"], 1e-9 * saved)
    models += 2  # zero-shot, with and without template
    # An answer's time is nearly all in its tokens.
    answers = test * bool(config.evaluation.metrics) + sum(
        len(task.rows) * task.asking.max_new_tokens / config.evaluation.max_new_tokens
        for task in read_tasks(config.evaluation.tasks)
    )
    yield StagePrice(
        "evaluate",
        models * (query + test),
        models * (query + test) * facts["target_tokens"],
        models * ((query + test) * facts["loss"] + answers * facts["answer"]),
    )


def total_price(prices: Sequence[Price]) -> Price:
    """Return the price of several studies, in which what some have in common is made once."""
    made: set[str] = set()
    stages: dict[str, StagePrice] = {}
    for stage in (stage for each in prices for stage in each.stages):
        if stage.made_from is not None:
            if stage.made_from in made:
                continue
            made.add(stage.made_from)
        before = stages.get(stage.stage)
        stages[stage.stage] = stage if before is None else before + stage
    return replace(prices[0], stages=list(stages.values()))


def print_price(price: Price, console: Console) -> None:
    """Print the estimate, stage by stage."""
    unit = "GPU-hours" if price.device == "cuda" else "core-hours"
    each = 1 if price.device == "cuda" else price.threads
    table = Table(
        title=f"estimate: measured on {price.sample} pool rows, {price.actors} actor(s) on {price.device}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for column in ("stage", "rows", "tokens", "hours", unit, "GB"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    total = StagePrice(
        "total",
        0,
        sum(stage.tokens for stage in price.stages),
        sum(stage.seconds for stage in price.stages),
        sum(stage.gigabytes for stage in price.stages),
    )
    for stage in (*price.stages, total):
        hours = stage.seconds / 3600
        table.add_row(
            stage.stage,
            f"{stage.rows:,}" if stage.rows else "",
            f"{stage.tokens:,.0f}" if stage.tokens else "",
            f"{hours / price.actors:.3g}",
            f"{hours * each:.3g}",
            f"{stage.gigabytes:.3g}",
            style="bold" if stage is total else None,
        )
    console.print(table)
    console.print(
        f"tokens per row: ± {price.spread:.0%} (95%, from {price.sample} rows); not counted: starting "
        "Ray, loading models, tasks of lm-eval, other users of the machine",
        highlight=False,
    )
