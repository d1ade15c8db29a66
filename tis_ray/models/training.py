"""LoRA training: one loop for LESS's warm-up and for fine-tuning on a subset.

The loop keeps no hidden state: the order of an epoch and the dropout masks of a step are functions
of (seed, epoch, step), so a run that continues from an epoch's checkpoint ends in the same weights
as one that was never stopped. A checkpoint holds the adapter (a PEFT folder), Adam's moments by
parameter name, and the log of every step with the learning rate it used.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from tis_ray.config import TrainingConfig
from tis_ray.data import count_response_tokens
from tis_ray.gradients import Example, batch_losses, collate, needed_length, plan_batches
from tis_ray.models.lora import (
    load_adapter,
    save_adapter,
    trainable_parameters,
    without_wrapper,
)
from tis_ray.store import folder_digest


@dataclass(frozen=True)
class Checkpoint:
    """One epoch's state on disk."""

    path: Path

    @property
    def adapter(self) -> Path:
        """The adapter, a PEFT folder."""
        return self.path / "adapter"

    @property
    def epoch(self) -> int:
        """Epochs trained, from 1."""
        return int(self.path.name.removeprefix("epoch-"))

    def identity(self) -> dict[str, Any]:
        """What a gradient here depends on: digests of the weights and moments, and the adapter's shape.

        Where the base model was loaded from is part of the adapter's config, but not of this.
        """
        config = json.loads((self.adapter / "adapter_config.json").read_text())
        names = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "lora_dropout")
        return {
            "adapter": folder_digest(self.adapter, "*.safetensors"),
            "moments": folder_digest(self.path, "moments.safetensors"),
            "lora": {name: config.get(name) for name in names},
        }

    def steps(self) -> list[dict[str, float]]:
        """The log so far: step, epoch, learning_rate, loss (mean over response tokens), tokens."""
        steps: list[dict[str, float]] = json.loads((self.path / "steps.json").read_text())
        return steps

    def moments(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Adam's first and second moments by parameter name."""
        tensors = load_file(self.path / "moments.safetensors")
        first = {
            k.removeprefix("exp_avg/"): v for k, v in tensors.items() if k.startswith("exp_avg/")
        }
        second = {
            k.removeprefix("exp_avg_sq/"): v
            for k, v in tensors.items()
            if k.startswith("exp_avg_sq/")
        }
        return first, second


def checkpoints(folder: str | Path) -> list[Checkpoint]:
    """Return the checkpoints in `folder`, oldest first."""
    found = [Checkpoint(path) for path in Path(folder).glob("epoch-*")]
    return sorted(found, key=lambda checkpoint: checkpoint.epoch)


def train_lora(
    model: Any,
    examples: Sequence[Example],
    config: TrainingConfig,
    *,
    seed: int,
    folder: str | Path,
    keep_all: bool = False,
    on_step: Callable[[int, int], None] = lambda step, total: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> list[Checkpoint]:
    """Train the adapters of `model` on `examples`; continue from the newest checkpoint in `folder`.

    Each step's gradient is the mean cross-entropy over the response tokens of `batch_size`
    examples (the last batch of an epoch may be smaller), whatever the micro-batches and workers.
    With torch.distributed initialised, each worker takes every W-th example of a batch.
    Returns the kept checkpoints, oldest first.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    parameters = trainable_parameters(model)
    device = next(iter(parameters.values())).device
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps_per_epoch = math.ceil(len(examples) / config.batch_size)
    total_steps = steps_per_epoch * config.epochs
    warmup_steps = math.ceil(config.warmup_ratio * total_steps)
    found = checkpoints(folder)
    steps: list[dict[str, float]] = []
    if found:
        steps = _restore(model, parameters, optimizer, found[-1])
    model.train()
    for epoch in range(found[-1].epoch if found else 0, config.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(examples))
        for start in range(0, len(order), config.batch_size):
            batch = [examples[i] for i in order[start : start + config.batch_size]]
            torch.manual_seed(
                int(np.random.SeedSequence([seed, len(steps), rank]).generate_state(1)[0])
            )
            rate = config.learning_rate * linear_schedule(len(steps), warmup_steps, total_steps)
            optimizer.param_groups[0]["lr"] = rate
            loss, tokens = _accumulate(
                model,
                batch[rank::world],
                sum(count_response_tokens(example["labels"]) for example in batch),
                config.micro_tokens,
                device,
            )
            if world > 1:
                for parameter in parameters.values():
                    dist.all_reduce(parameter.grad)
                dist.all_reduce(loss)
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
            if not torch.isfinite(loss + norm):
                raise FloatingPointError(
                    f"step {len(steps) + 1} of {total_steps}: the loss is {loss:g} and its "
                    f"gradient's norm {norm:g}; lower learning_rate (now {rate:g}), or check that "
                    "the base model gives finite losses"
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            steps.append(
                {
                    "step": len(steps) + 1,
                    "epoch": epoch + 1,
                    "learning_rate": rate,
                    "loss": loss.item(),
                    "tokens": tokens,
                }
            )
            on_step(len(steps), total_steps)
        if rank == 0:
            _save(Path(folder), epoch + 1, model, parameters, optimizer, steps, keep_all)
        if world > 1:
            dist.barrier()
        recent = steps[-steps_per_epoch:]
        on_epoch({"epoch": epoch + 1, "loss": float(np.mean([s["loss"] for s in recent]))})
    model.eval()
    return checkpoints(folder)


def linear_schedule(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the peak learning rate at `step` (from 0): up over the warm-up, down to 0."""
    if step < warmup_steps:
        return step / warmup_steps
    return (total_steps - step) / max(1, total_steps - warmup_steps)


def _accumulate(
    model: Any, batch: list[Example], total: int, micro_tokens: int, device: torch.device
) -> tuple[torch.Tensor, int]:
    """Add the gradient of this worker's share of a step; return its share of the mean loss."""
    loss = torch.zeros((), device=device)
    for parameter in trainable_parameters(model).values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    base = without_wrapper(model)
    lengths = [needed_length(example) for example in batch]
    for members in plan_batches(lengths, token_budget=micro_tokens):
        micro = collate([batch[i] for i in members]).to(device)
        part = (batch_losses(base, micro) * micro.label_counts).sum() / total
        part.backward()
        loss += part.detach()
    return loss, total


def _save(
    folder: Path,
    epoch: int,
    model: Any,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    steps: list[dict[str, float]],
    keep_all: bool,
) -> None:
    target = folder / f"epoch-{epoch}"
    temporary = folder / f".epoch-{epoch}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_adapter(model, temporary / "adapter")
    tensors = {}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        tensors[f"exp_avg/{name}"] = state["exp_avg"].cpu().contiguous()
        tensors[f"exp_avg_sq/{name}"] = state["exp_avg_sq"].cpu().contiguous()
    save_file(tensors, temporary / "moments.safetensors")
    (temporary / "steps.json").write_text(json.dumps(steps))
    temporary.replace(target)
    if not keep_all and epoch > 1:
        shutil.rmtree(folder / f"epoch-{epoch - 1}", ignore_errors=True)


def _restore(
    model: Any,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    checkpoint: Checkpoint,
) -> list[dict[str, float]]:
    load_adapter(model, checkpoint.adapter)
    steps = checkpoint.steps()
    first, second = checkpoint.moments()
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(len(steps))),
            "exp_avg": first[name].to(parameter.device),
            "exp_avg_sq": second[name].to(parameter.device),
        }
    return steps
