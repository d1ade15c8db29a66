"""Training, features and scores of a few rows, timed for the price of a study, and the memory that a scorer takes."""

from __future__ import annotations

import time
import tracemalloc

import torch
from torch.nn import Module

from tis_ray.config import Config
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora
from tis_ray.representations import Build, Representation
from tis_ray.settings import TrainingConfig
from tis_ray.storage import Place
from tis_ray.store import TableRow
from tis_ray.training.loop import train


def time_training(
    config: Config, model: Module, sample: list[TableRow], folder: Place
) -> tuple[float, Place]:
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


def time_features(
    method: Representation,
    config: Config,
    sample: list[TableRow],
    device: str,
    checkpoint: Place | None,
) -> tuple[float, int]:
    """Return seconds per row (at one checkpoint; None where no language model reads), and the features' width."""
    settings = config.settings_of(method)
    proxy, warmup = method.model(settings), method.warmup(settings)
    if checkpoint is not None and proxy is not None and warmup is not None:
        model = attach_lora(load_model(proxy, device), warmup.lora, seed=0)
        training = TrainingConfig(epochs=1, batch_size=4, learning_rate=1e-5)
        folder = checkpoint.parent / "proxy"
        kept = train(model, sample[:4], training, seed=0, folder=folder, keep_all=True)
        checkpoint = kept[-1].path
    checkpoints = (checkpoint,) if checkpoint is not None and warmup is not None else ()
    featuriser = method.build(
        Build(settings, proxy or config.model, config.batch, device, checkpoints)
    )
    width = featuriser.features(sample[:2], "pool").values_ECK.shape[2]
    start = time.monotonic()
    featuriser.features(sample, "pool")
    return (time.monotonic() - start) / len(sample), width


def time_scores(
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


def bytes_held(
    method: Representation, config: Config, sample: list[TableRow], queries: list[TableRow]
) -> float:
    """Return the bytes per pool row that a representation without vectors takes, at most, of one process."""
    settings = config.settings_of(method)
    method.scorer(settings, sample, queries)  # loads what it needs
    tracemalloc.start()
    try:
        method.scorer(settings, sample, queries)
        return tracemalloc.get_traced_memory()[1] / len(sample)
    finally:
        tracemalloc.stop()


def flops_here() -> float:
    """Return operations per second of a float32 matrix product on the CPU, where scores are made."""
    a = torch.rand(64, 4096)
    b = torch.rand(4096, 512)
    a @ b
    start = time.monotonic()
    for _ in range(4):
        a @ b
    return 4 * 2 * 64 * 4096 * 512 / (time.monotonic() - start)
