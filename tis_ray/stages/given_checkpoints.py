"""Checkpoints that are not trained here: an adapter of the user's, a Trainer's, or adapters as they begin.

They are brought into the form that a warm-up leaves, `epoch-1`, `epoch-2`, ... in an artifact `moments-*`,
so that nothing further on knows of others. What they lack of Adam's moments is estimated, from the rows
that a warm-up would have been trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

from tis_ray.batches.threads import cpu_threads
from tis_ray.distributed.task import run_task
from tis_ray.errors import InputError
from tis_ray.gradients import check_per_example
from tis_ray.log import Activity, peak_mb
from tis_ray.models.given_adapter import (
    adapted_meta_model,
    adapter_config,
    load_given_adapter,
)
from tis_ray.models.loading import load_model, model_identity
from tis_ray.models.lora import attach_lora
from tis_ray.representations import GivenFolder, Warmup
from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
from tis_ray.stages.context import Context
from tis_ray.stages.training_rows import Subset, progress_writer, training_progress
from tis_ray.stages.warmup_rows import Sample, warmup_sample
from tis_ray.storage import Place, place
from tis_ray.store import Artifact, file_digest, folder_digest
from tis_ray.store.sides import Side
from tis_ray.training.checkpoints import Checkpoint, checkpoints, write_checkpoint
from tis_ray.training.moments import estimated_moments
from tis_ray.training.trainer_checkpoints import (
    OPTIMIZER,
    GivenCheckpoint,
    learning_rates,
    trainer_checkpoints,
)

VERSION = 1
"""Of `moments-*`."""


def untrained_checkpoints(
    warmup: Warmup, context: Context, model: ModelConfig, pool: Side
) -> list[Checkpoint]:
    """Return the checkpoints of a warm-up that trains nothing: an earlier one's, or those made here."""
    if warmup.given is not None and (earlier := _earlier(warmup.given)):
        return earlier
    sources = _sources(warmup)
    sample = None
    if warmup.moments and not (sources and all(source.has_moments for source in sources)):
        sample = warmup_sample(warmup, context, model, pool)
    order = MakeOrder(
        sources=tuple(sources),
        steps=tuple(learning_rates(sources)) if sources else (),
        model=model,
        lora=None if sources else warmup.lora,
        seed=warmup.seed,
        training=warmup.training,
        moments=warmup.moments,
        threads=context.config.batch.threads,
        device=context.cluster.device,
    )
    artifact = Artifact(context.root, "moments", _inputs(order, sample), VERSION)
    reused = artifact.complete
    if not reused:
        clock = artifact.clock()
        subset = None
        if sample is not None:
            subset = Subset.write(artifact / "examples.parquet", sample.tokens())

        def batches(activity: Activity) -> None:
            activity.count(*training_progress(artifact.path))

        counting = Activity("moments", "batches", state="loading the model")
        with clock.marked(), context.log.watching(counting, batches):
            peak = run_task(
                "moments", context.cluster, make_checkpoints, order, artifact.path, subset
            )
        artifact.commit(
            rows=sample.size if sample else 0,
            seconds=clock.seconds,
            device=context.cluster.device,
            peak_mb=peak,
            details={"checkpoints": max(1, len(sources))},
        )
    context.log.made("warm-up", _label(warmup), artifact, reused, _note(order, sample))
    return checkpoints(artifact.path)


def given_problems(warmup: Warmup, model: ModelConfig) -> list[str]:
    """Return what keeps a given folder from being the checkpoints of this model, a line; empty if it fits.

    Takes seconds: no weight of the model is read.
    """
    try:
        _check_given(warmup, model)
    except InputError as error:
        return [str(error)]
    return []


def _check_given(warmup: Warmup, model: ModelConfig) -> None:
    given = warmup.given
    if given is None:
        return
    if earlier := _earlier(given):
        adapted_meta_model(earlier[0].adapter, model, given.field)
        lacking = [c.path.name for c in earlier if not c.has_moments]
        if warmup.moments and lacking:
            raise InputError(
                f"{given.field}: {given.path}: {lacking[0]} has no Adam moments; set pool_direction: sgd, "
                "or give its adapter folder as the adapter, and they are estimated"
            )
        return
    sources = _sources(warmup)
    learning_rates(sources)
    for source in sources:
        adapted = adapted_meta_model(source.path, model, source.field)
        _require_same_lora(warmup, source)
        if warmup.moments and source.has_moments:
            source.moments(adapted)


def _require_same_lora(warmup: Warmup, source: GivenCheckpoint) -> None:
    """Raise InputError where the config asks for other adapters than those that are given."""
    found = adapter_config(source.path, source.field)
    for field, name in (("rank", "r"), ("alpha", "lora_alpha")):
        asked = getattr(warmup.lora, field)
        if field in warmup.lora.model_fields_set and asked != found.get(name):
            raise InputError(
                f"{warmup.section}.lora.{field}: found {asked:g}, but the adapter in {source.path} has "
                f"{found.get(name)}; leave {warmup.section}.lora out: the adapter has its own"
            )


def _earlier(given: GivenFolder) -> list[Checkpoint]:
    """Return the checkpoints of a warm-up of ours, if that is what the folder is."""
    return checkpoints(place(given.path))


def _sources(warmup: Warmup) -> list[GivenCheckpoint]:
    """Return the given adapters, oldest first; none if the adapters are to be as they begin."""
    if warmup.given is None:
        return []
    folder, field = place(warmup.given.path), warmup.given.field
    found = trainer_checkpoints(folder, field)
    if warmup.adapter is None:
        if found:
            return found
        advice = "; give it as the adapter" if (folder / "adapter_config.json").is_file() else ""
        raise InputError(
            f"{field}: {warmup.given.path} holds no `epoch-*` of a warm-up (`warmup-*` among the artifacts "
            f"of an earlier run) and no `checkpoint-*` of a Trainer{advice or '; check the path'}"
        )
    if found and not (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{field}: {warmup.given.path} holds the checkpoints of a Trainer; give one of them, such as "
            f"{found[-1].path}, or the folder as {warmup.section}.warmup.checkpoints"
        )
    adapter_config(folder, field)
    return [GivenCheckpoint(folder, field)]


def _inputs(order: MakeOrder, sample: Sample | None) -> dict[str, object]:
    """Return all that decides the checkpoints' content, and nothing else."""
    inputs: dict[str, object] = {
        "model": model_identity(order.model),
        "adapters": [
            {
                "adapter": folder_digest(source.path, "adapter_*"),
                "moments": file_digest(source.path / OPTIMIZER)
                if order.moments and source.has_moments
                else None,
            }
            for source in order.sources
        ],
        "steps": list(order.steps),
        "moments": order.moments,
    }
    if order.lora is not None:
        inputs |= {"lora": order.lora.model_dump(mode="json"), "seed": order.seed}
    if sample is not None:
        batches = order.training.model_dump(
            mode="json", include={"batch_size", "max_grad_norm", "micro_tokens", "packed"}
        )
        inputs |= {"rows": sample.digest, "batches": batches, "threads": order.threads}
    return inputs


def _label(warmup: Warmup) -> str:
    if warmup.given is None:
        return "adapters, untrained"
    return "adapter as given" if warmup.adapter else "checkpoints as given"


def _note(order: MakeOrder, sample: Sample | None) -> str:
    """Return where the moments come from, in words."""
    if not order.moments:
        return "no moments needed"
    lacking = sum(not source.has_moments for source in order.sources)
    if sample is None:
        return f"moments of {len(order.sources)} checkpoint(s) from {OPTIMIZER}"
    some = f" at {lacking} of {len(order.sources)} checkpoints" if len(order.sources) > 1 else ""
    return f"Adam's moments{some} estimated from {sample.size} rows; no weight was moved"


@dataclass(frozen=True, kw_only=True)
class MakeOrder:
    """What a process is to make checkpoints of.

    sources: the adapters, oldest first; none makes one with `lora`, as it begins with `seed`.
    steps: the log that weighs them. moments: whether they are needed.
    """

    sources: tuple[GivenCheckpoint, ...]
    steps: tuple[dict[str, float], ...]
    model: ModelConfig
    lora: LoraConfig | None
    seed: int
    training: TrainingConfig
    moments: bool
    threads: int
    device: str


def make_checkpoints(order: MakeOrder, folder: Place, subset: Subset | None) -> float:
    """Write `epoch-*` into `folder`; return the peak memory in MB (runs where an actor would).

    subset: the rows that moments are estimated from; None if all are read.
    """
    with cpu_threads(order.threads):
        for number, source in enumerate(order.sources or [None], 1):
            if source is None:
                assert order.lora is not None
                # Begun on the CPU, whose random numbers are the same everywhere.
                adapted = attach_lora(load_model(order.model), order.lora, order.seed)
                adapted = adapted.to(order.device)
            else:
                adapted = load_given_adapter(source.path, order.model, order.device, source.field)
            check_per_example(adapted)
            moments = None
            if order.moments and source is not None and source.has_moments:
                moments = source.moments(adapted)
                source.check_moments(adapted, moments)
            elif order.moments:
                assert subset is not None
                examples, step = subset.examples("moments"), progress_writer(folder)
                moments = estimated_moments(adapted, examples, order.training, step)
            write_checkpoint(folder, number, adapted, moments, list(order.steps))
    return peak_mb()
