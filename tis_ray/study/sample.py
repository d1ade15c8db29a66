"""Measuring a study on a sample of its rows, for its price: seconds per row or token, widths, bytes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import torch
from torch.nn import Module

from tis_ray.batches import IGNORED
from tis_ray.batches.threads import cpu_threads
from tis_ray.config import Config
from tis_ray.data import Row, UnusableError
from tis_ray.evaluation import example_losses, generate
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora, trainable_parameters
from tis_ray.representations import Build, Representation
from tis_ray.settings import TrainingConfig
from tis_ray.stages.tokens import Tokenise
from tis_ray.store import Artifact, TableRow
from tis_ray.store.sides import SideName, row_dicts
from tis_ray.training.loop import train

SAMPLE = 64
"""Pool rows that are measured."""
ANSWERS = 4
"""Test rows whose answers are generated."""


def methods_of(config: Config) -> list[Representation]:
    """Return the representations that are computed, each after the cheap one that goes before it."""
    return [method for method in config.representations() if method.gives != "ordering"]


class Measured(TypedDict):
    """What was measured on a sample of the pool, and on a few query and test rows."""

    sample: int
    """Pool rows that were measured."""
    tokens_per_row: float
    spread: float
    """Half the 95% interval of `tokens_per_row`, as a share of it."""
    target_tokens: float
    """Tokens per query or test row."""
    tokenise: float
    """Seconds per row."""
    train: float
    """Seconds per token of training an adapter."""
    finetune: float
    """Seconds per token of fine-tuning as the study does."""
    saved: float
    """Bytes of a trained model."""
    feature: dict[str, float]
    """Seconds per row and checkpoint, by representation."""
    width: dict[str, int]
    """Numbers of a feature, by representation; 0 where it has no vectors."""
    loss: float
    """Seconds per query or test row."""
    answer: float
    """Seconds per generated answer."""
    flops: float
    """Operations per second of a matrix product."""


def measure_sample(config: Config, rows: Mapping[SideName, Artifact], device: str) -> Measured:
    """Tokenise, featurise, train on, and evaluate a sample."""
    with cpu_threads(config.batch.threads):  # a task's process is used for others afterwards
        return _measured(config, rows, device)


def _measured(config: Config, rows: Mapping[SideName, Artifact], device: str) -> Measured:
    start = time.monotonic()
    sample = _sample(config, rows["pool"], "pool", SAMPLE)
    tokenise = (time.monotonic() - start) / max(len(sample), 1)
    target = _sample(config, rows["test"], "test", 2 * ANSWERS)
    queries = _sample(config, rows["query"], "query", 2 * ANSWERS)
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
        for method in methods_of(config):
            feature[method.name], width[method.name] = (
                _time_features(method, config, sample, device, checkpoint)
                if method.gives == "vectors"
                else _time_scores(method, config, sample, queries)
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
    return Measured(
        sample=len(sample),
        tokens_per_row=float(lengths.mean()),
        spread=float(1.96 * lengths.std() / np.sqrt(len(lengths)) / lengths.mean()),
        target_tokens=float(np.mean([len(row["input_ids"]) for row in target])),
        tokenise=tokenise,
        train=train,
        finetune=finetune,
        saved=saved,
        feature=feature,
        width=width,
        loss=loss,
        answer=answer,
        flops=_flops(),
    )


def _sample(config: Config, rows: Artifact, side: SideName, count: int) -> list[TableRow]:
    """Encode usable rows spread evenly over a side."""
    encoder = Tokenise.for_side(config, rows.path, side)
    manifest = rows.manifest()
    shards = int(manifest.details["shards"])
    each = max(1, -(-count // shards))
    sample: list[TableRow] = []
    for shard in np.linspace(0, shards - 1, min(shards, count)).astype(int).tolist():
        candidates = row_dicts(rows / f"rows-{shard:05d}.parquet")
        for row in candidates[:: max(1, len(candidates) // each)][:each]:
            try:
                encoded = encoder.encode(cast(Row, row)).encoded()
            except UnusableError:
                continue
            # What EMBED reads; the template's marks are a few characters.
            text = "\n".join(turn["content"] for turn in row["messages"])
            sample.append({**row, **encoded, "text": text, "response_tokens": 1})
    return sample[:count]


def _bytes(tensors: Iterable[torch.Tensor]) -> float:
    return float(sum(tensor.nbytes for tensor in tensors))


def _time_training(
    config: Config, model: Module, sample: list[TableRow], folder: Path
) -> tuple[float, Path]:
    """Return seconds per token of training, and the checkpoint that it left."""
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
    sample: list[TableRow],
    device: str,
    checkpoint: Path,
) -> tuple[float, int]:
    """Return seconds per row (at one checkpoint), and the features' width."""
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
    sample: list[TableRow],
    queries: list[TableRow],
) -> tuple[float, int]:
    """Return seconds per pool row of a representation without vectors, and no width."""
    start = time.monotonic()
    scorer = method.scorer(config.settings_of(method), sample, queries)
    scorer.scores(0, len(sample))
    return (time.monotonic() - start) / len(sample), 0


def _prompt(row: TableRow) -> list[int]:
    first = next(i for i, label in enumerate(row["labels"]) if label != IGNORED)
    prompt: list[int] = row["input_ids"][:first]
    return prompt


def _flops() -> float:
    """Return operations per second of a float32 matrix product on the CPU, where scores are made."""
    a = torch.rand(64, 4096)
    b = torch.rand(4096, 512)
    a @ b
    start = time.monotonic()
    for _ in range(4):
        a @ b
    return 4 * 2 * 64 * 4096 * 512 / (time.monotonic() - start)
