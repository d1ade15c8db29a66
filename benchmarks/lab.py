"""What the LESS benchmarks share: a model at a checkpoint with real moments, its rows, its machine."""

from __future__ import annotations

import gc
import logging
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import transformers

from tis_ray.batches import Batch, collate, needed_length, plan_batches
from tis_ray.data import builtin, encode_messages
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.models.lora import attach_lora
from tis_ray.representations.less import LessSettings
from tis_ray.representations.less.features import Gradients, Less
from tis_ray.settings import BatchConfig, LoraConfig, ModelConfig, TrainingConfig
from tis_ray.training.loop import train

PACKAGES = ("torch", "transformers", "peft", "numpy", "ray", "traker")
WARM_UP_ROWS = 12
MAX_LENGTH = 512


@dataclass(frozen=True)
class Lab:
    """A model with LESS at one checkpoint, and the rows to featurise."""

    name: str
    less: Less
    rows: list[dict[str, Any]]
    batches: list[Batch]
    """The batches that `less.features(rows, ...)` makes of the rows."""

    @property
    def model(self) -> Any:
        """The model with its adapter, in evaluation mode."""
        return self.less.gradients.model

    @property
    def moments(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Adam's moments at the checkpoint."""
        first, second = self.less.gradients.moments[0]
        return first, second

    def describe(self) -> str:
        """One line: the model, what trains, the rows."""
        labels = sum(int(batch.label_counts.sum()) for batch in self.batches)
        tokens = sum(needed_length(row) for row in self.rows)
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return (
            f"{self.name}: LoRA r {LoraConfig().rank}, {trained:,} trainable parameters; "
            f"{len(self.rows)} rows of {tokens / len(self.rows):.0f} tokens and "
            f"{labels / len(self.rows):.0f} labels on average, in {len(self.batches)} batches"
        )


@contextmanager
def checkpoint(model: ModelConfig) -> Iterator[Path]:
    """Yield a warm-up checkpoint of the model after a few steps, so its moments are real ones."""
    with tempfile.TemporaryDirectory() as folder:
        base = attach_lora(load_model(model), LoraConfig(), seed=0)
        training = TrainingConfig(epochs=1, batch_size=4, warmup_ratio=0.0, learning_rate=1e-3)
        rows = encoded(model, builtin.pool_rows(WARM_UP_ROWS, seed=1))
        kept = train(base, rows, training, seed=0, folder=folder)
        del base
        gc.collect()
        yield kept[-1].path


@contextmanager
def lab(name: str, model: ModelConfig, raw: list[dict[str, Any]]) -> Iterator[Lab]:
    """Yield the model at a checkpoint, with these rows encoded for it."""
    with checkpoint(model) as path:
        yield open_lab(name, model, path, raw)


def open_lab(name: str, model: ModelConfig, path: Path, raw: list[dict[str, Any]]) -> Lab:
    """Load the model at this checkpoint, and encode the rows for it."""
    rows, batch = encoded(model, raw), BatchConfig()
    less = Less(Gradients(load_model(model), LessSettings(), batch, [path]))
    plan = plan_batches([needed_length(row) for row in rows], batch.examples, batch.tokens)
    batches = [collate([rows[i] for i in members]) for members in plan]
    return Lab(name, less, rows, batches)


def encoded(model: ModelConfig, raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as tokens and labels."""
    tokenizer = load_tokenizer(model)
    return [{**encode_messages(row["messages"], tokenizer, MAX_LENGTH)} for row in raw]


def quiet() -> None:
    """Keep loaders, bars and deprecation notes out of the figures."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TQDM_DISABLE"] = "1"
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def machine() -> str:
    """One line: processor, load, threads, versions."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return (
        f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"device cpu, {torch.get_num_threads()} thread; Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((ln.partition(":")[2].strip() for ln in lines if ln.startswith("model name")), "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
