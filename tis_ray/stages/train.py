"""Training on Ray Train: LESS's warm-up, and the fine-tuning and evaluation of one cell."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import TorchTrainer

from tis_ray.config import Config, ModelConfig
from tis_ray.models.checkpoints import checkpoints
from tis_ray.models.loading import (
    borrow_model,
    give_back_model,
    load_model,
    load_tokenizer,
    model_identity,
)
from tis_ray.models.lora import attach_lora, detach_lora, load_adapter, save_adapter
from tis_ray.models.saving import save_model
from tis_ray.models.sharding import gather_weights, set_weights, shard_model
from tis_ray.models.training import train
from tis_ray.stages.cluster import Cluster
from tis_ray.stages.evaluate import NO_TEMPLATE, evaluate, evaluate_without_template
from tis_ray.stages.log import RunLog, peak_mb
from tis_ray.stages.tokens import TOKENS, Side
from tis_ray.store import Artifact, Clock, write_json, write_parquet

Spec = dict[str, Any]
"""What a training process needs: paths and config sections. Small; it is pickled."""
TRAINING = ("train_rows", "train_tokens", "optimizer_steps", "train_loss", "seconds_train")
"""What is known of an adapter's training, wherever it is measured."""


def run_training(
    name: str,
    loop: Callable[[Spec], None],
    spec: Spec,
    workers: int,
    cluster: Cluster,
    config: Config,
) -> None:
    """Run `loop(spec)` in a Ray Train worker group (0 workers: in this process).

    A lost worker restarts the group up to `compute.max_failures` times; the loop continues from
    its own checkpoints, which lie in the artifact, so it also does after a restart of the driver.
    """
    trainer = TorchTrainer(
        loop,
        train_loop_config=spec,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=bool(cluster.gpus_per_actor),
            **({"resources_per_worker": cluster.trial_resources} if workers else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(config.artifact_root / "ray-train"),
            failure_config=ray.train.FailureConfig(
                max_failures=config.compute.max_failures, controller_failure_limit=3
            ),
        ),
    )
    trainer.fit()
    shutil.rmtree(config.artifact_root / "ray-train" / name, ignore_errors=True)


def warmup_artifact(config: Config, model: ModelConfig, pool: Side) -> Artifact:
    """Return LESS's warm-up artifact: `epoch-*` checkpoints with moments and learning rates."""
    return Artifact(
        config.artifact_root,
        "warmup",
        {
            "tokens": pool.tokens.fingerprint,
            "model": model_identity(model),
            "lora": config.less.lora.model_dump(mode="json"),
            "training": config.less.warmup.model_dump(mode="json", exclude={"checkpoints"}),
            "seed": config.less.seed,
            "threads": config.batch.threads,
        },
    )


def warm_up(
    artifact: Artifact,
    config: Config,
    model: ModelConfig,
    pool: Side,
    cluster: Cluster,
    log: RunLog,
) -> int:
    """Train the warm-up adapters on a random share of the pool; return the number of rows."""
    clock = artifact.clock()
    warmup = config.less.warmup
    total = pool.usable
    size = min(total, max(warmup.min_rows, round(warmup.share * total)))
    rows = warmup_rows(pool, size, config.less.seed)
    write_parquet(artifact / "examples.parquet", take_examples(pool, rows))
    spec: Spec = {
        "folder": artifact.path,
        "model": model,
        "lora": config.less.lora,
        "shard": False,
        "training": warmup,
        "seed": config.less.seed,
        "threads": config.batch.threads,
        "device": cluster.device,
    }
    progress = partial(training_progress, artifact.path)
    with clock.marked(), log.watching("warm-up", "steps", progress):
        run_training(artifact.path.name, warmup_loop, spec, 1, cluster, config)
    last = checkpoints(artifact.path)[-1]
    details = {"steps": len(last.steps()), "loss": last.steps()[-1]["loss"]}
    facts = json.loads((artifact / "worker.json").read_text())
    artifact.commit(
        rows=size,
        seconds=clock.seconds,
        device=cluster.device,
        peak_mb=facts["peak_mb"],
        details=details,
    )
    return size


def warmup_rows(pool: Side, size: int, seed: int) -> np.ndarray:
    """Return the positions of a uniform sample, in the order they are trained on.

    Both follow from a hash of the rows' ids, so the order of the pool file does not matter.
    """
    ids = [name for table in pool.token_tables() for name in table["id"].to_pylist()]
    keys = [blake2b(f"{seed}|{name}".encode(), digest_size=8).digest() for name in ids]
    return np.array(sorted(range(len(ids)), key=lambda i: keys[i])[:size])


def take_examples(pool: Side, positions: np.ndarray) -> pa.Table:
    """Return the token rows at `positions` among the usable rows, in the order of `positions`."""
    parts, offset = [], 0
    for table in pool.token_tables():
        inside = np.flatnonzero((positions >= offset) & (positions < offset + table.num_rows))
        if len(inside):
            parts.append((inside, table.take(positions[inside] - offset)))
        offset += table.num_rows
    order = np.argsort(np.concatenate([inside for inside, _ in parts]), kind="stable")
    return pa.concat_tables([table for _, table in parts]).take(order).cast(TOKENS)


def warmup_loop(spec: Spec) -> None:
    """Train one LESS warm-up (runs in a Ray Train worker)."""
    model, examples = _prepare(spec)
    train(
        model,
        examples,
        spec["training"],
        seed=spec["seed"],
        folder=spec["folder"],
        keep_all=True,
        on_step=_progress_writer(spec["folder"]),
        on_epoch=ray.train.report,
    )
    write_json(spec["folder"] / "worker.json", {"peak_mb": peak_mb()})


def cell_loop(spec: Spec) -> None:
    """Fine-tune on a subset, then evaluate (runs in a Ray Train worker).

    Zero-shot is the same loop without a subset; an adapter that another cell has trained is loaded.
    Only rank 0 evaluates and writes.
    """
    folder: Path = spec["folder"]
    first = not dist.is_initialized() or dist.get_rank() == 0
    clock = Clock(folder) if first else None
    # In local mode this runs inside a Tune trial, where Ray Train's report is refused.
    report = ray.train.report if spec["workers"] else lambda metrics: None
    model, examples = _prepare(spec)
    metrics: dict[str, Any] = {"train_rows": 0, "train_tokens": 0, "optimizer_steps": 0}
    if spec["trained"]:
        told = json.loads((spec["trained"] / "metrics.json").read_text())
        metrics = {name: told[name] for name in TRAINING}
    elif examples:
        with clock.marked() if clock else nullcontext():
            kept = train(
                model,
                examples,
                spec["training"],
                seed=spec["seed"],
                folder=folder / "checkpoints",
                on_step=_progress_writer(folder),
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


def _prepare(spec: Spec) -> tuple[Any, list[dict[str, list[int]]]]:
    """Return the model, ready to be trained, and the examples; without any, as it is."""
    torch.set_num_threads(spec["threads"])
    subset = spec["folder"] / "examples.parquet"
    if not subset.exists():
        return borrow_model(spec["model"], spec["device"]), []
    examples = pq.read_table(subset, columns=["input_ids", "labels"]).to_pylist()
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


def _progress_writer(folder: Path) -> Callable[[int, int], None]:
    """Return a callback that leaves `progress.json` for whoever watches, at most once a second."""
    told = 0.0

    def write(step: int, total: int) -> None:
        nonlocal told
        first = not dist.is_initialized() or dist.get_rank() == 0
        if first and (time.monotonic() - told > 1 or step == total):
            told = time.monotonic()
            write_json(folder / "progress.json", {"step": step, "total": total})

    return write


def training_progress(folder: Path) -> tuple[int, int]:
    """Return (step, total) of the training in `folder`; (0, 0) before its first step."""
    try:
        told = json.loads((folder / "progress.json").read_text())
    except FileNotFoundError:
        return 0, 0
    return told["step"], told["total"]
