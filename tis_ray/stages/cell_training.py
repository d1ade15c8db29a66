"""Training and measuring one cell, in the process that an order is sent to.

An order is all that such a process knows. It is small: it is pickled, and goes to another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.nn import Module

from tis_ray.batches.threads import cpu_threads
from tis_ray.distributed.worker_group import report_epoch
from tis_ray.log import peak_mb
from tis_ray.models.loading import from_anywhere, lent_model, load_model, load_tokenizer
from tis_ray.models.lora import attach_lora, detach_lora, load_adapter, save_adapter
from tis_ray.models.saving import save_model, save_prompting
from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
from tis_ray.stages.cell_evaluation import (
    NO_TEMPLATE,
    Evaluation,
    evaluate,
    evaluate_without_template,
)
from tis_ray.stages.training_rows import Subset, progress_writer
from tis_ray.storage import Place, remove_folder
from tis_ray.store import Artifact, Clock, read_json, write_json
from tis_ray.training.fsdp import gather_weights, set_weights, shard_model
from tis_ray.training.loop import train

TRAINING = ("train_rows", "train_tokens", "optimizer_steps", "train_loss", "seconds_train")
"""What is known of a training, whatever its model is measured on."""


@dataclass(frozen=True, kw_only=True)
class TrainingOrder:
    """What a process is to train.

    name: what is trained, for messages. folder: where it writes.
    subset: the rows to train on; None only for zero-shot, which trains nothing.
    lora: of the adapters to train; None trains every weight, in parts if `shard`.
    """

    name: str
    folder: Place
    subset: Subset | None
    model: ModelConfig
    lora: LoraConfig | None
    shard: bool
    training: TrainingConfig
    seed: int
    threads: int
    device: str

    def __post_init__(self) -> None:
        """Let the model be found from any folder."""
        object.__setattr__(self, "model", from_anywhere(self.model))


@dataclass(frozen=True, kw_only=True)
class CellOrder(TrainingOrder):
    """A training whose model is then measured.

    note: the file that says which cell has trained this very adapter, for cells that are measured
    on something else. trained: the folder of such a cell, whose adapter is loaded. save: whether to
    keep the trained model. workers: of Ray Train; 0 trains in the trial itself.
    """

    artifact: Artifact
    evaluation: Evaluation
    note: Place
    trained: Place | None
    save: bool
    workers: int


def cell_loop(order: CellOrder) -> None:
    """Fine-tune on the subset, then evaluate (runs in a Ray Train worker).

    Zero-shot is the same loop without a subset; an adapter that another cell has trained is loaded.
    Only rank 0 evaluates and writes.
    """
    first = not dist.is_initialized() or dist.get_rank() == 0
    clock = Clock(order.folder) if first else None
    with cpu_threads(order.threads), ordered_model(order) as model:
        if order.subset is None:
            metrics: dict[str, object] = {"train_rows": 0, "train_tokens": 0, "optimizer_steps": 0}
        elif order.trained is not None:
            load_adapter(model, order.trained / "adapter")
            model.eval()
            earlier = read_json(order.trained / "metrics.json")
            metrics = {name: earlier[name] for name in TRAINING}
        else:
            with clock.marked() if clock else nullcontext():
                metrics = _train(model, order.subset, order)
        whole = _whole(model, order)
        if clock is not None and whole is not None:
            metrics.setdefault("seconds_train", clock.seconds)
            metrics.update(_measured(whole, order))
            remove_folder(order.folder / "checkpoints")
            metrics["seconds"] = clock.seconds
            metrics["peak_mb"] = peak_mb()
            write_json(order.folder / "metrics.json", metrics)


def _train(model: Module, subset: Subset, order: CellOrder) -> dict[str, object]:
    """Train; return the facts named in TRAINING, but for the seconds."""
    examples = subset.examples(order.name)
    kept = train(
        model,
        examples,
        order.training,
        seed=order.seed,
        folder=order.folder / "checkpoints",
        on_step=progress_writer(order.folder),
        # Without workers this runs inside a Tune trial, where Ray Train's report is refused.
        on_epoch=report_epoch if order.workers else lambda metrics: None,
    )
    steps = kept[-1].steps()
    return {
        "train_rows": len(examples),
        "train_tokens": int(sum(step["tokens"] for step in steps)),
        "optimizer_steps": len(steps),
        "train_loss": [step["loss"] for step in steps],
    }


def _whole(model: Module, order: CellOrder) -> Module | None:
    """Return the model to measure; one whose weights lie in parts is put together on rank 0."""
    if order.subset is None or not order.shard:
        return model
    weights = gather_weights(model, getattr(torch, order.model.dtype))
    if dist.get_rank() > 0:
        return None
    whole: Module = load_model(order.model)
    set_weights(whole, weights)
    return whole.to(order.device)


def _measured(model: Module, order: CellOrder) -> dict[str, object]:
    """Evaluate; save a trained model; return the metrics, and what was saved."""
    metrics: dict[str, object] = dict(evaluate(model, order.evaluation, order.folder))
    if order.subset is None:
        folder = order.folder / NO_TEMPLATE
        metrics[NO_TEMPLATE] = evaluate_without_template(model, order.evaluation, folder)
    else:
        metrics["model"] = _save(model, order) if order.save else None
    return metrics


@contextmanager
def ordered_model(order: TrainingOrder) -> Iterator[Module]:
    """Lend the model: with new adapters, or every weight trainable (perhaps in parts), or as it is.

    With adapters and as it is, it is the process's own base model, which stays as it was.
    """
    if order.subset is not None and order.lora is None:
        yield _every_weight(order)  # held by nobody else: it is freed where it is let go
        return
    with lent_model(order.model, order.device) as base:
        if order.subset is None or order.lora is None:
            yield base
            return
        model = attach_lora(base, order.lora, order.seed)
        try:
            yield model
        finally:
            detach_lora(model)


def _every_weight(order: TrainingOrder) -> Module:
    """Load the model with every weight trainable, perhaps in parts."""
    model: Module = load_model(order.model, "cpu" if order.shard else order.device)
    model.requires_grad_(True)
    if order.shard:
        shard_model(model, order.device)
    return model


def _save(model: Module, order: CellOrder) -> str:
    """Save a trained model in the cell's folder; return the name it has there."""
    tokenizer, template = load_tokenizer(order.model), order.evaluation.template
    if order.lora is None:
        save_model(model, tokenizer, order.folder / "model", template)
        return "model"
    save_adapter(model, order.folder / "adapter")
    save_prompting(tokenizer, template, order.folder / "adapter", model.generation_config)
    return "adapter"
