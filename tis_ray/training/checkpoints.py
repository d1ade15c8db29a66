"""Training checkpoints: the state on disk that a run continues from and LESS takes gradients at.

A checkpoint holds the adapter (a PEFT folder) or, when every weight is trained, the float32
weights; Adam's moments by parameter name; and the log of every step with the learning rate it
used. Workers that hold a part of the weights each write their own part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeAlias

import peft
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from tis_ray.errors import InputError
from tis_ray.models.lora import CausalLM, load_adapter, save_adapter
from tis_ray.storage import AnyPlace, Place, local_file, place, remove_folder
from tis_ray.store import atomic_path, folder_digest, read_json, write_text
from tis_ray.training.master_weights import Weights, local

Moments: TypeAlias = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
"""Adam's first and second moments by parameter name."""
STEPS = "steps.json"
"""The log of a checkpoint; where it is there, the checkpoint is whole."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder `epoch-N`."""

    path: Place

    @property
    def adapter(self) -> Place:
        """The adapter, a PEFT folder."""
        return self.path / "adapter"

    @property
    def epoch(self) -> int:
        """Epochs trained, from 1."""
        return int(self.path.name.removeprefix("epoch-"))

    def identity(self) -> dict[str, object]:
        """Return what a gradient here depends on: digests of weights and moments, the adapter's shape.

        The place that the base model was loaded from is part of the adapter's config, but not of this.
        """
        config = self.lora()
        names = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "lora_dropout")
        return {
            "adapter": folder_digest(self.adapter, "*.safetensors"),
            "moments": folder_digest(self.path, "moments.safetensors"),
            "lora": {name: config.get(name) for name in names},
        }

    def steps(self) -> list[dict[str, float]]:
        """Return the log so far: step, epoch, learning_rate, loss (mean over response tokens), tokens."""
        steps: list[dict[str, float]] = read_json(self.path / STEPS)
        return steps

    def lora(self) -> dict[str, object]:
        """Return the adapter's config, as PEFT writes it."""
        config: dict[str, object] = read_json(self.adapter / "adapter_config.json")
        return config

    @property
    def has_moments(self) -> bool:
        """Whether Adam's moments were kept."""
        return (self.path / "moments.safetensors").exists()

    def moments(self, part: str = "") -> Moments:
        """Return Adam's first and second moments by parameter name."""
        tensors = load_file(local_file(self.path / f"moments{part}.safetensors"))
        first = {
            k.removeprefix("exp_avg/"): v for k, v in tensors.items() if k.startswith("exp_avg/")
        }
        second = {
            k.removeprefix("exp_avg_sq/"): v
            for k, v in tensors.items()
            if k.startswith("exp_avg_sq/")
        }
        return first, second


def checkpoints(folder: AnyPlace) -> list[Checkpoint]:
    """Return the whole checkpoints in `folder`, oldest first: their log is written last of all."""
    unordered = [Checkpoint(path.parent) for path in place(folder).glob(f"epoch-*/{STEPS}")]
    return sorted(unordered, key=lambda checkpoint: checkpoint.epoch)


def save_checkpoint(
    folder: Place,
    epoch: int,
    model: CausalLM,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    steps: list[dict[str, float]],
    keep_all: bool,
) -> None:
    """Write `folder/epoch-N`; unless `keep_all`, it replaces the previous one.

    It counts when its log is there, which is written last. Every worker must call this; one of them
    writes, or each writes its own part.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    made = folder / f"epoch-{epoch}"
    if rank == 0 or weights.sharded:
        part = _part(weights)
        tensors = {}
        for name, tensor in weights.tensors.items():
            for moment in ("exp_avg", "exp_avg_sq"):
                state = local(optimizer.state[tensor][moment])
                tensors[f"{moment}/{name}"] = state.cpu().contiguous()
        _save(tensors, made / f"moments{part}.safetensors")
        if not isinstance(model, peft.PeftModel):
            tensors = {
                name: local(tensor).detach().cpu().contiguous()
                for name, tensor in weights.tensors.items()
            }
            _save(tensors, made / f"weights{part}.safetensors")
    _wait_for_all()
    if rank == 0:
        if isinstance(model, peft.PeftModel):
            save_adapter(model, made / "adapter")
        write_text(made / STEPS, json.dumps(steps))
        if not keep_all and epoch > 1:
            remove_folder(folder / f"epoch-{epoch - 1}")
    _wait_for_all()


def write_checkpoint(
    folder: Place,
    epoch: int,
    model: peft.PeftModel,
    moments: Moments | None,
    steps: list[dict[str, float]],
) -> None:
    """Write `folder/epoch-N` of an adapter that was not trained here; it counts when its log is there.

    moments: None where no direction needs them.
    """
    made = folder / f"epoch-{epoch}"
    remove_folder(made)
    save_adapter(model, made / "adapter")
    if moments is not None:
        tensors = {
            f"{kind}/{name}": tensor.cpu().contiguous()
            for kind, by_name in zip(("exp_avg", "exp_avg_sq"), moments, strict=True)
            for name, tensor in by_name.items()
        }
        _save(tensors, made / "moments.safetensors")
    write_text(made / STEPS, json.dumps(steps))


def restore_checkpoint(
    checkpoint: Checkpoint, model: CausalLM, weights: Weights, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Put model and optimizer into the state of a checkpoint; return its log of steps.

    Raises InputError if it was written in parts by a different number of workers.
    """
    part = _part(weights)
    if not (checkpoint.path / f"moments{part}.safetensors").exists():
        raise InputError(
            f"{checkpoint.path}: contains no `moments{part}.safetensors`: it was written with "
            "different finetune.workers or finetune.shard; use those again, or delete it"
        )
    if isinstance(model, peft.PeftModel):
        load_adapter(model, checkpoint.adapter)
    else:
        saved = load_file(local_file(checkpoint.path / f"weights{part}.safetensors"))
        with torch.no_grad():
            for name, tensor in weights.tensors.items():
                local(tensor).copy_(saved[name])
        weights.publish()
    steps = checkpoint.steps()
    first, second = checkpoint.moments(part)
    for name, tensor in weights.tensors.items():
        state = {"exp_avg": first[name], "exp_avg_sq": second[name]}
        optimizer.state[tensor] = {"step": torch.tensor(float(len(steps)))}
        for moment, values in state.items():
            optimizer.state[tensor][moment] = torch.zeros_like(tensor, requires_grad=False)
            local(optimizer.state[tensor][moment]).copy_(values)
    return steps


def _save(tensors: dict[str, torch.Tensor], file: Place) -> None:
    with atomic_path(file) as temporary:
        save_file(tensors, temporary)


def _part(weights: Weights) -> str:
    """Return the suffix of the names of this worker's files."""
    return f"-{dist.get_rank()}-of-{dist.get_world_size()}" if weights.sharded else ""


def _wait_for_all() -> None:
    if dist.is_initialized():
        dist.barrier()
