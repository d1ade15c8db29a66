"""The warm-up stage: adapters trained on a random share of the pool, with a checkpoint for each epoch."""

from __future__ import annotations

from tis_ray.batches.threads import cpu_threads
from tis_ray.distributed.worker_group import report_epoch, run_training
from tis_ray.gradients import check_per_example
from tis_ray.log import Activity, peak_mb
from tis_ray.models.loading import model_identity
from tis_ray.representations import Warmup
from tis_ray.settings import ModelConfig
from tis_ray.stages.cell_training import TrainingOrder, ordered_model
from tis_ray.stages.context import Context
from tis_ray.stages.training_rows import Subset, progress_writer, training_progress
from tis_ray.stages.warmup_rows import Sample, warmup_sample
from tis_ray.store import Artifact, read_json, write_json
from tis_ray.store.sides import Side
from tis_ray.training.checkpoints import Checkpoint, checkpoints
from tis_ray.training.loop import train

VERSION = 3
"""Of the warm-up; 3: it is named by its rows, not by the pool."""


def trained_checkpoints(
    warmup: Warmup, context: Context, model: ModelConfig, pool: Side
) -> list[Checkpoint]:
    """Return the warm-up's checkpoints, with moments and learning rates; it is trained if it is not yet."""
    sample = warmup_sample(warmup, context, model, pool)
    artifact = Artifact(
        context.root,
        "warmup",
        {
            "rows": sample.digest,
            "model": model_identity(model),
            "lora": warmup.lora.model_dump(mode="json"),
            "training": warmup.training.model_dump(
                mode="json", exclude={"checkpoints", "share", "min_rows"}
            ),
            "seed": warmup.seed,
            "threads": context.config.batch.threads,
        },
        VERSION,
    )
    reused, note = artifact.complete, ""
    if not reused:
        if earlier := checkpoints(artifact.path):
            note = f"continued after epoch {earlier[-1].epoch}"
        _train(artifact, warmup, context, model, sample)
    context.log.made("warm-up", "warm-up", artifact, reused, note)
    return checkpoints(artifact.path)


def _train(
    artifact: Artifact,
    warmup: Warmup,
    context: Context,
    model: ModelConfig,
    sample: Sample,
) -> None:
    clock = artifact.clock()
    order = TrainingOrder(
        name="warm-up",
        folder=artifact.path,
        subset=Subset.write(artifact / "examples.parquet", sample.tokens()),
        model=model,
        lora=warmup.lora,
        shard=False,
        training=warmup.training,
        seed=warmup.seed,
        threads=context.config.batch.threads,
        device=context.cluster.device,
    )
    training = Activity("warm-up", "steps", state="waiting for a worker, loading the model")

    def steps(activity: Activity) -> None:
        activity.count(*training_progress(artifact.path))

    with clock.marked(), context.log.watching(training, steps):
        run_training(artifact.path.name, warmup_loop, order, 1, context.cluster, context.root)
    last = checkpoints(artifact.path)[-1]
    details = {"steps": len(last.steps()), "loss": last.steps()[-1]["loss"]}
    facts = read_json(artifact / "worker.json")
    artifact.commit(
        rows=sample.size,
        seconds=clock.seconds,
        device=context.cluster.device,
        peak_mb=facts["peak_mb"],
        details=details,
    )


def warmup_loop(order: TrainingOrder) -> None:
    """Train one LESS warm-up (runs in a Ray Train worker)."""
    assert order.subset is not None
    with cpu_threads(order.threads), ordered_model(order) as model:
        check_per_example(model)
        train(
            model,
            order.subset.examples(order.name),
            order.training,
            seed=order.seed,
            folder=order.folder,
            keep_all=True,
            on_step=progress_writer(order.folder),
            on_epoch=report_epoch,
        )
    write_json(order.folder / "worker.json", {"peak_mb": peak_mb()})
