"""What each stage of a study will take, by what was measured on a sample of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tis_ray.config import Config
from tis_ray.evaluation import read_tasks
from tis_ray.representations import Representation
from tis_ray.selectors import SELECTORS
from tis_ray.settings.grid import points
from tis_ray.stages.feature_recipe import reading_model
from tis_ray.store import fingerprint
from tis_ray.store.shard_layout import ShardLayout
from tis_ray.store.sides import SIDES, SideName
from tis_ray.study.driver import cell_requests, driver_rates, driver_share
from tis_ray.study.measured import Measured
from tis_ray.study.requests import NONE, Requests
from tis_ray.study.sample import methods_of

READ, ADAPT, TRAIN = 2, 4, 6
"""Operations for each token and parameter: of reading, of a gradient of adapters (the weights get none),
of a gradient of all weights."""
BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.5, "int2": 0.25}


@dataclass(frozen=True)
class StagePrice:
    """The estimate for one stage: `seconds` is the sum over actors, `gigabytes` what it writes.

    made_from: names what it is made from and how, where several studies can have it in common.
    flops: operations of a language model. reads: bytes of weights that generation reads, for each token
        of a batch anew. Where both are 0 a GPU is of no use.
    driver: seconds of the one driver, which come on top and which more actors do not shorten.
    requests: what it asks of a bucket, if its artifacts lie in one.
    """

    stage: str
    rows: int
    tokens: float
    seconds: float
    gigabytes: float = 0.0
    made_from: str | None = None
    flops: float = 0.0
    reads: float = 0.0
    driver: float = 0.0
    requests: Requests = NONE

    def wall(self, actors: int) -> float:
        """Return seconds from its beginning to its end."""
        return self.seconds / actors + self.driver

    def __add__(self, other: StagePrice) -> StagePrice:
        """Return the price of the stage in two studies."""
        return StagePrice(
            self.stage,
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.seconds + other.seconds,
            self.gigabytes + other.gigabytes,
            flops=self.flops + other.flops,
            reads=self.reads + other.reads,
            driver=self.driver + other.driver,
            requests=self.requests + other.requests,
        )


def stage_prices(
    config: Config,
    counts: Mapping[SideName, int],
    facts: Measured,
    actors: int,
    trained: bool = True,
) -> list[StagePrice]:
    """Extrapolate what was measured to all rows of one study; `trained`: with its cells.

    A stage with a model has processes of its own, as many as actors: each takes its time to start.
    """
    started = actors * facts["start"]
    begin = started + actors * facts["load"]
    stages = [
        StagePrice("starting", 0, 0, started),
        *_reading_prices(config, counts, facts),
        *(
            price
            for method in methods_of(config)
            for price in _representation_prices(
                config, method, counts, facts, begin if method.reads == "tokens" else started
            )
        ),
        *(_training_prices(config, counts, facts, begin) if trained else ()),
    ]
    return [_with_driver(stage, config, actors) for stage in stages]


def _with_driver(stage: StagePrice, config: Config, actors: int) -> StagePrice:
    """Return a stage with what the driver takes for it, and its requests."""
    kind = stage.stage.partition(" ")[0]
    if kind not in driver_rates()["stages"]:
        return stage
    shards = ShardLayout(config.batch.shard_rows).count(stage.rows)
    share = driver_share(kind, stage.rows, shards, stage.seconds / actors)
    return replace(stage, driver=stage.driver + share.seconds, requests=share.requests)


def _reading_prices(
    config: Config, counts: Mapping[SideName, int], facts: Measured
) -> Iterator[StagePrice]:
    """Yield the prices of the screen, and of reading the pool and encoding it."""
    pool, tokens = counts["pool"], counts["pool"] * facts["tokens_per_row"]
    yield StagePrice("screen", pool, 0, pool * facts["screen"], 0.0, _screened(config))
    encoded = fingerprint({"tokens": tokens_of(config)})
    yield StagePrice(
        "tokens",
        pool,
        tokens,
        pool * facts["tokenise"],
        8e-9 * tokens,
        encoded,
        driver=1e-6 * pool * driver_rates()["ingest_microseconds"],
    )


def _screened(config: Config) -> str:
    """Return what names the screen of a pool; tasks that are not to repeat each other have one in common."""
    sources = [
        source
        for side in ("query", "test")
        for source in [
            config.data.side(side) if side in config.data.sides else None,
            *(task.source(side) for task in config.overlap.also),
        ]
        if source is not None
    ]
    targets = sorted(fingerprint(source.model_dump(mode="json")) for source in sources)
    overlap = config.overlap.model_dump(mode="json", exclude={"also"})
    pool = config.data.pool.model_dump(mode="json")
    return fingerprint({"pool": pool, "targets": sorted(set(targets)), "overlap": overlap})


def tokens_of(config: Config, method: Representation | None = None) -> dict[str, object]:
    """Return what decides the pool's tokens, as the model of a representation reads them."""
    model = config.model if method is None else reading_model(method, config)
    data = config.data.model_dump(mode="json", include={"pool", "template", "max_length"})
    return {"data": data, "model": model.model_dump(mode="json")}


def _representation_prices(
    config: Config,
    method: Representation,
    counts: Mapping[SideName, int],
    facts: Measured,
    begin: float,
) -> Iterator[StagePrice]:
    """Yield the prices of a representation's warm-up, features and scores."""
    pool, query, each = counts["pool"], counts["query"], facts["tokens_per_row"]
    settings = config.settings_of(method)
    encoded = tokens_of(config, method)
    features = fingerprint({"tokens": encoded, "method": method.identity(settings)})
    scores = fingerprint({"features": features, "query": config.data.query.model_dump(mode="json")})
    name, warmup, cascade = method.name, method.warmup(settings), method.cascade(settings)
    if warmup is not None and warmup.trains:
        rows = min(pool, max(warmup.min_rows, round(warmup.share * pool)))
        tokens = rows * each * warmup.training.epochs
        warmed = fingerprint({"tokens": encoded, "warmup": repr(warmup)})
        flops = ADAPT * tokens * facts["readers"].get(name, 0)
        seconds = begin + tokens * facts["train"]
        # Of each checkpoint the adapter and Adam's two moments of it, in float32.
        kept = 1e-9 * warmup.passes * 3 * 4 * facts["model"]["adapter"]
        yield StagePrice("warm-up", rows, tokens, seconds, kept, warmed, flops)
    passes = warmup.passes if warmup is not None else 1
    rows = query + (pool if cascade is None else round(pool * cascade.keep) + cascade.sample)
    stores = method.gives == "vectors" and method.scoring(settings) == "store"
    width = facts["width"].get(name, 0) * passes
    size = width * BYTES[method.dtype(settings)] if stores else 0.0
    tokens, seconds = rows * each * passes, rows * passes * facts["feature"][name]
    written = 4e-9 * query * rows
    if method.gives != "vectors":  # one process has the whole pool
        yield StagePrice(f"scores {name}", rows, tokens, 0.0, written, scores, driver=seconds)
        yield _ordering_price(config, name, query, rows, scores)
        return
    flops = (READ if warmup is None else ADAPT) * tokens * facts["readers"].get(name, 0)
    gigabytes = rows * size * 1e-9
    yield StagePrice(
        f"features {name}", rows, tokens, begin + seconds, gigabytes, features, flops=flops
    )
    seconds = 2.0 * query * rows * width / facts["flops"]
    yield StagePrice(f"scores {name}", rows, 0, seconds, written, scores)
    yield _ordering_price(config, name, query, rows, scores)


def _ordering_price(config: Config, name: str, queries: int, rows: int, scores: str) -> StagePrice:
    """Return the price of a representation's orderings: its scores are checked, and read by each selector."""
    selectors = config.selectors(name)
    seconds = (
        (1 + len(selectors)) * 4e-9 * queries * rows / driver_rates()["scores_gigabytes_a_second"]
    )
    subsets = config.model_dump(mode="json", include={"budget", "budget_unit", "constraints"})
    made_from = fingerprint({"scores": scores, "selectors": selectors, **subsets})
    return StagePrice(f"orderings {name}", rows, 0, seconds, made_from=made_from)


def _training_prices(
    config: Config, counts: Mapping[SideName, int], facts: Measured, begin: float
) -> Iterator[StagePrice]:
    """Yield the prices of the search, of fine-tuning and of evaluation."""
    model = facts["model"]
    learns = (TRAIN if config.finetune.method == "full" else ADAPT) * model["parameters"]
    pool, query, test = (counts[side] for side in SIDES)
    each = facts["tokens_per_row"]
    size = each if config.budget_unit == "tokens" else 1
    if config.search is not None:
        combinations = len(points(config.search.over))
        trials = min(combinations, config.search.trials or combinations)
        rows = trials * min(pool, config.search.rows or round(max(config.budget) / size))
        tried = rows * each * config.finetune.epochs
        losses = trials * config.finetune.epochs * query * facts["loss"]
        yield StagePrice(
            "search", rows, tried, begin + tried * facts["finetune"] + losses, flops=learns * tried
        )
    methods = 1 + sum(
        1 if config.method(name).gives == "ordering" else len(config.selectors(name))
        for name in config.representation
    )
    trained = round(methods * len(config.seed) * sum(config.budget) / size)
    models = methods * len(config.seed) * len(config.budget)
    if config.draws is not None:
        drawn = config.draws.count * sum(
            len([s for s in config.selectors(name) if not SELECTORS.find(s).draws])
            for name in config.representation
            if config.method(name).gives != "ordering"
        )
        trained += round(drawn * sum(config.budget) / size)
        models += drawn * len(config.budget)
    if config.quantiles is not None:
        bins = config.quantiles.bins * (2 if config.quantiles.focus else 1)
        parts = len(config.representation) * bins * len(config.seed)
        trained, models = trained + parts * config.quantiles.rows, models + parts
    tokens = trained * each * config.finetune.epochs
    saved = models * facts["saved"] if config.finetune.save else 0.0
    yield StagePrice(
        "fine-tune",
        trained,
        tokens,
        begin + tokens * facts["finetune"],
        1e-9 * saved,
        flops=learns * tokens,
        requests=cell_requests() * models,
    )
    models += 2  # zero-shot, with and without template
    # An answer's time is nearly all in its tokens.
    answers = test * bool(config.evaluation.metrics) + sum(
        len(task.rows) * task.asking.max_new_tokens / config.evaluation.max_new_tokens
        for task in read_tasks(config.evaluation.tasks)
    )
    read = models * (query + test) * facts["target_tokens"]
    steps = models * answers * config.evaluation.max_new_tokens / config.evaluation.batch_size
    yield StagePrice(
        "evaluate",
        models * (query + test),
        read,
        models * ((query + test) * facts["loss"] + answers * facts["answer"]),
        flops=READ * model["parameters"] * read,
        reads=steps * model["parameters"] * model["bytes_each"],
    )
