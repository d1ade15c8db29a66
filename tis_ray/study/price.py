"""What a study will cost, before it is paid for: measured on a few rows, extrapolated to all.

The pool is read (its size is needed) but only a sample of it is tokenised, featurised and trained on,
by one actor with the resources that the stages' actors get. Everything else is multiplication:
seconds a token, tokens a row, rows. What is not in it: starting Ray, loading the model once for each
actor, and waiting for other users of the machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from tis_ray.batches import IGNORED
from tis_ray.batches.threads import cpu_threads
from tis_ray.config import Config
from tis_ray.data import Row, TemplateError, count_response_tokens
from tis_ray.distributed.connect import Cluster, connect
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.distributed.task import run_task
from tis_ray.evaluation import example_losses, generate, read_tasks
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora, trainable_parameters
from tis_ray.models.training import train
from tis_ray.representations import REPRESENTATIONS, Build, Representation
from tis_ray.settings import TrainingConfig
from tis_ray.settings.grid import points
from tis_ray.stages.tokens import Tokenise, read_side
from tis_ray.store import Artifact
from tis_ray.store.sides import SIDES, SideName, row_dicts

SAMPLE = 64
"""Pool rows that are measured."""
ANSWERS = 4
"""Test rows whose answers are generated."""
BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.5, "int2": 0.25}


@dataclass(frozen=True)
class StagePrice:
    """The estimate for one stage: `seconds` is the sum over actors, `gigabytes` what it writes."""

    stage: str
    rows: int
    tokens: float
    seconds: float
    gigabytes: float = 0.0


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
    """Measure a sample and return what the whole study would cost."""
    rows = {side: read_side(config, side) for side in SIDES}
    cluster = connect(config)
    counts = {side: artifact.manifest().rows for side, artifact in rows.items()}
    with quiet_ray():
        facts = run_task(_measure, config, rows, cluster.device, cluster=cluster)
    return estimate(config, counts, facts, cluster)


def estimate(
    config: Config, counts: dict[SideName, int], facts: dict[str, Any], cluster: Cluster
) -> Price:
    """Extrapolate what `_measure` found to all rows."""
    pool, query, test = (counts[side] for side in SIDES)
    each = facts["tokens_per_row"]
    stages = [StagePrice("tokens", pool, pool * each, pool * facts["tokenise"], 8e-9 * pool * each)]
    for method in _methods(config):
        settings = config.settings_of(method)
        name, warmup, cascade = method.name, method.warmup(settings), method.cascade(settings)
        if warmup is not None and warmup.checkpoints is None:
            rows = min(pool, max(warmup.min_rows, round(warmup.share * pool)))
            tokens = rows * each * warmup.training.epochs
            stages.append(StagePrice("warm-up", rows, tokens, tokens * facts["train"]))
        passes = warmup.training.epochs if warmup is not None else 1
        rows = query + (pool if cascade is None else round(pool * cascade.keep) + cascade.sample)
        stores = method.gives == "vectors" and method.scoring(settings) == "store"
        width = facts["width"].get(name, 0) * passes
        size = width * BYTES[method.dtype(settings)] if stores else 0.0
        tokens, seconds = rows * each * passes, rows * passes * facts["feature"][name]
        stages.append(StagePrice(f"features {name}", rows, tokens, seconds, rows * size * 1e-9))
        flops = 2.0 * query * rows * width
        stages.append(
            StagePrice(f"scores {name}", rows, 0, flops / facts["flops"], 4e-9 * query * rows)
        )
    methods = 1 + sum(len(config.selectors(name)) for name in config.representation)
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
    stages = [_repeated(stage, config) for stage in stages]
    return Price(
        stages, cluster.actors, cluster.threads, cluster.device, facts["sample"], facts["spread"]
    )


def _methods(config: Config) -> list[Representation]:
    """Return the representations of a study, each after the cheap one that goes before it."""
    found: dict[str, Representation] = {}
    for method in map(config.method, config.representation):
        cascade = method.cascade(config.settings_of(method))
        for one in (*([REPRESENTATIONS.find(cascade.by)] if cascade else []), method):
            found.setdefault(one.name, one)
    return list(found.values())


def _repeated(stage: StagePrice, config: Config) -> StagePrice:
    """Return a stage of all studies that the config consists of.

    Tasks share what is made of the pool, and settings that no feature depends on do too.
    """
    times = max(1, len(config.parts()))
    if stage.stage.split()[0] in ("tokens", "warm-up", "features"):
        shared = ("finetune.", "search.", "uot.", "knn.", "constraints.", "evaluation.", "overlap.")
        axes = {k: v for k, v in config.grid.items() if not k.startswith(shared)}
        times = len(points(axes))
    return StagePrice(
        stage.stage,
        times * stage.rows,
        times * stage.tokens,
        times * stage.seconds,
        times * stage.gigabytes,
    )


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


def _measure(config: Config, rows: dict[SideName, Artifact], device: str) -> dict[str, Any]:
    """Tokenise, featurise, train on, and evaluate a sample; return seconds a row or a token."""
    with cpu_threads(config.batch.threads):  # a task's process is used for others afterwards
        return _measured(config, rows, device)


def _measured(config: Config, rows: dict[SideName, Artifact], device: str) -> dict[str, Any]:
    start = time.monotonic()
    sample = _sample(config, rows["pool"], "pool", SAMPLE)
    tokenise = (time.monotonic() - start) / max(len(sample), 1)
    target = _sample(config, rows["test"], "test", 2 * ANSWERS)
    lengths = np.array([len(row["input_ids"]) for row in sample])
    width: dict[str, int] = {}
    feature: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        lora = attach_lora(load_model(config.model, device), config.finetune.lora, seed=0)
        train, checkpoint = _time_training(config, lora, sample, Path(scratch) / "lora")
        finetune, saved = train, _bytes(trainable_parameters(lora).values())
        if config.finetune.method == "full":
            model = load_model(config.model, device).requires_grad_(True)
            saved = _bytes(model.parameters())
            finetune, _ = _time_training(config, model, sample, Path(scratch) / "full")
        for method in _methods(config):
            feature[method.name], width[method.name] = (
                _time_features(method, config, sample, device, checkpoint)
                if method.gives == "vectors"
                else _time_scores(method, config, sample, target)
            )
    model = load_model(config.model, device)
    start = time.monotonic()
    example_losses(model, target)
    loss = (time.monotonic() - start) / len(target)
    answer = 0.0
    if config.evaluation.metrics or config.evaluation.tasks:
        tokenizer = Tokenise.for_side(config, rows["test"].path, "test").tokenizer
        prompts = [_prompt(row) for row in target[:ANSWERS]]
        start = time.monotonic()
        generate(model, tokenizer, prompts, config.evaluation.max_new_tokens, len(prompts))
        answer = (time.monotonic() - start) / len(prompts)
    return {
        "sample": len(sample),
        "tokens_per_row": float(lengths.mean()),
        "spread": float(1.96 * lengths.std() / np.sqrt(len(lengths)) / lengths.mean()),
        "target_tokens": float(np.mean([len(row["input_ids"]) for row in target])),
        "tokenise": tokenise,
        "train": train,
        "finetune": finetune,
        "saved": saved,
        "feature": feature,
        "width": width,
        "loss": loss,
        "answer": answer,
        "flops": _flops(),
    }


def _sample(config: Config, rows: Artifact, side: SideName, count: int) -> list[dict[str, Any]]:
    """Encode usable rows spread evenly over a side."""
    encoder = Tokenise.for_side(config, rows.path, side)
    manifest = rows.manifest()
    shards = int(manifest.details["shards"])
    each = max(1, -(-count // shards))
    found: list[dict[str, Any]] = []
    for shard in np.linspace(0, shards - 1, min(shards, count)).astype(int).tolist():
        candidates = row_dicts(rows / f"rows-{shard:05d}.parquet")
        for row in candidates[:: max(1, len(candidates) // each)][:each]:
            try:
                encoded = encoder.encode(cast(Row, row))
            except TemplateError:
                continue
            if count_response_tokens(encoded["labels"]):
                # What EMBED reads; the template's marks are a few characters.
                text = "\n".join(turn["content"] for turn in row["messages"])
                found.append({**row, **encoded, "text": text, "response_tokens": 1})
    return found[:count]


def _bytes(tensors: Iterable[torch.Tensor]) -> float:
    return float(sum(tensor.nbytes for tensor in tensors))


def _time_training(
    config: Config, model: Any, sample: list[dict[str, Any]], folder: Path
) -> tuple[float, Path]:
    """Return seconds a token of training, and the checkpoint it left."""
    times: list[float] = []
    batch = max(1, len(sample) // 4)
    settings = TrainingConfig(
        epochs=1,
        batch_size=batch,
        learning_rate=1e-5,
        micro_tokens=config.finetune.micro_tokens,
        packed=config.finetune.packed,
    )
    kept = train(
        model,
        sample,
        settings,
        seed=0,
        folder=folder,
        keep_all=True,
        on_step=lambda step, total: times.append(time.monotonic()),
    )
    # The first step also warms up; the tokens of the others are near their mean.
    steps = max(len(times) - 1, 1)
    tokens = sum(len(row["input_ids"]) for row in sample) * steps / max(len(times), 1)
    return (times[-1] - times[0]) / tokens if len(times) > 1 else 0.0, kept[-1].path


def _time_features(
    method: Representation,
    config: Config,
    sample: list[dict[str, Any]],
    device: str,
    checkpoint: Path,
) -> tuple[float, int]:
    """Return seconds a row (at one checkpoint), and the features' width."""
    settings = config.settings_of(method)
    proxy, warmup = method.model(settings), method.warmup(settings)
    if proxy is not None and warmup is not None:
        model = attach_lora(load_model(proxy, device), warmup.lora, seed=0)
        training = TrainingConfig(epochs=1, batch_size=4, learning_rate=1e-5)
        folder = checkpoint.parent / "proxy"
        kept = train(model, sample[:4], training, seed=0, folder=folder, keep_all=True)
        checkpoint = kept[-1].path
    checkpoints = (checkpoint,) if warmup is not None else ()
    featuriser = method.build(
        Build(settings, proxy or config.model, config.batch, device, checkpoints)
    )
    width = featuriser.features(sample[:2], "pool").values_ECK.shape[2]
    start = time.monotonic()
    featuriser.features(sample, "pool")
    return (time.monotonic() - start) / len(sample), width


def _time_scores(
    method: Representation,
    config: Config,
    sample: list[dict[str, Any]],
    target: list[dict[str, Any]],
) -> tuple[float, int]:
    """Return seconds a pool row of a representation without vectors, and no width."""
    start = time.monotonic()
    scorer = method.scorer(config.settings_of(method), sample, target)
    scorer.scores(0, len(sample))
    return (time.monotonic() - start) / len(sample), 0


def _prompt(row: dict[str, Any]) -> list[int]:
    first = next(i for i, label in enumerate(row["labels"]) if label != IGNORED)
    prompt: list[int] = row["input_ids"][:first]
    return prompt


def _flops() -> float:
    """Return operations a second of a float32 matrix product on the CPU, where scores are made."""
    a = torch.rand(64, 4096)
    b = torch.rand(4096, 512)
    a @ b
    start = time.monotonic()
    for _ in range(4):
        a @ b
    return 4 * 2 * 64 * 4096 * 512 / (time.monotonic() - start)
