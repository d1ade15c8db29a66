"""The fine-tuning and evaluation of one cell, as a worker of Ray Train runs it."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tis_ray.distributed.training import Spec
from tis_ray.distributed.training import report as report_progress
from tis_ray.log import peak_mb
from tis_ray.models.loading import (
    borrow_model,
    give_back_model,
    load_model,
    load_tokenizer,
)
from tis_ray.models.lora import attach_lora, detach_lora, load_adapter, save_adapter
from tis_ray.models.saving import save_model
from tis_ray.models.sharding import gather_weights, set_weights, shard_model
from tis_ray.models.training import train
from tis_ray.stages.evaluation import NO_TEMPLATE, evaluate, evaluate_without_template
from tis_ray.stages.examples import progress_writer
from tis_ray.store import Clock, read_json, read_parquet, write_json

TRAINING = ("train_rows", "train_tokens", "optimizer_steps", "train_loss", "seconds_train")
"""What is known of an adapter's training, wherever it is measured."""


def cell_loop(spec: Spec) -> None:
    """Fine-tune on a subset, then evaluate (runs in a Ray Train worker).

    Zero-shot is the same loop without a subset; an adapter that another cell has trained is loaded.
    Only rank 0 evaluates and writes.
    """
    folder: Path = spec["folder"]
    first = not dist.is_initialized() or dist.get_rank() == 0
    clock = Clock(folder) if first else None
    # In local mode this runs inside a Tune trial, where Ray Train's report is refused.
    report = report_progress if spec["workers"] else lambda metrics: None
    model, examples = prepare(spec)
    metrics: dict[str, Any] = {"train_rows": 0, "train_tokens": 0, "optimizer_steps": 0}
    if spec["trained"]:
        told = read_json(spec["trained"] / "metrics.json")
        metrics = {name: told[name] for name in TRAINING}
    elif examples:
        with clock.marked() if clock else nullcontext():
            kept = train(
                model,
                examples,
                spec["training"],
                seed=spec["seed"],
                folder=folder / "checkpoints",
                on_step=progress_writer(folder),
                on_epoch=report,
            )
        steps = kept[-1].steps()
        metrics = {
            "train_rows": len(examples),
            "train_tokens": int(sum(step["tokens"] for step in steps)),
            "optimizer_steps": len(steps),
            "train_loss": [step["loss"] for step in steps],
        }
    sharded = examples and spec["shard"]
    whole = gather_weights(model, getattr(torch, spec["model"].dtype)) if sharded else {}
    if clock is None:
        return
    if sharded:
        model = load_model(spec["model"])
        set_weights(model, whole)
        model.to(spec["device"])
    metrics.setdefault("seconds_train", clock.seconds)
    metrics.update(evaluate(model, spec["evaluation"], folder))
    if not examples:
        part = folder / NO_TEMPLATE
        metrics[NO_TEMPLATE] = evaluate_without_template(model, spec["evaluation"], part)
    if examples:
        metrics["model"] = _save(model, spec) if spec["save"] else None
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    metrics["seconds"] = clock.seconds
    metrics["peak_mb"] = peak_mb()
    write_json(folder / "metrics.json", metrics)
    if not examples or spec["lora"] is not None:
        base = detach_lora(model) if examples else model
        give_back_model(base, spec["model"], spec["device"])


def prepare(spec: Spec) -> tuple[Any, list[dict[str, list[int]]]]:
    """Return the model, ready to be trained, and the examples; without any, as it is."""
    torch.set_num_threads(spec["threads"])
    subset = spec["folder"] / "examples.parquet"
    if not subset.exists():
        return borrow_model(spec["model"], spec["device"]), []
    examples = read_parquet(subset, columns=["input_ids", "labels"]).to_pylist()
    model = trainable_model(spec)
    if spec.get("trained"):
        load_adapter(model, spec["trained"] / "adapter")
        model.eval()
    return model, examples


def trainable_model(spec: Spec) -> Any:
    """Return the model with new adapters, or with every weight trainable and perhaps in parts."""
    if spec["lora"] is not None:
        base = borrow_model(spec["model"], spec["device"])
        return attach_lora(base, spec["lora"], spec["seed"])
    model = load_model(spec["model"], "cpu" if spec["shard"] else spec["device"])
    model.requires_grad_(True)
    if spec["shard"]:
        shard_model(model, spec["device"])
    return model


def _save(model: Any, spec: Spec) -> str:
    """Save a trained model in the cell's folder; return the name it has there."""
    if spec["lora"] is None:
        save_model(model, load_tokenizer(spec["model"]), spec["folder"] / "model")
        return "model"
    save_adapter(model, spec["folder"] / "adapter")
    return "adapter"
