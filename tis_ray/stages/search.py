"""The search stage: hyper-parameters of fine-tuning, for all cells, by ASHA on random rows and query loss.

Every method then trains with the same settings, chosen on a subset that no method chose, so the
search favours none of them. The test rows play no part.

ASHA (Li et al., "A system for massively parallel hyperparameter tuning", 2020) stops a trial after an
epoch if it is not among the best 1/reduction of those that have come as far. Which are stopped depends
on who came first, so two searches may differ; a search is an artifact, and a study keeps to its result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tis_ray.analysis.recorded import Search, Trial
from tis_ray.batches.threads import cpu_threads
from tis_ray.config import Config
from tis_ray.distributed.lost import killed_for_memory
from tis_ray.distributed.trials import asha, report_trial, run_trials
from tis_ray.evaluation import example_losses
from tis_ray.log import Activity, peak_mb
from tis_ray.models.loading import model_identity
from tis_ray.settings import FinetuneConfig, SearchConfig
from tis_ray.settings.grid import Point, label, placed, points
from tis_ray.stages.cell_training import TrainingOrder, ordered_model
from tis_ray.stages.context import Context
from tis_ray.stages.training_rows import Subset, sample_rows, take_examples
from tis_ray.storage import Place, remove_folder
from tis_ray.store import Artifact, find_json, read_json, write_json
from tis_ray.store.sides import Side
from tis_ray.training.loop import train

RESULTS = "search.json"
"""The file of an artifact that holds what every trial came to, and the best."""
VERSION = 2
"""Of the search; 2: a single step has the peak learning rate."""


@dataclass(frozen=True, kw_only=True)
class TrialOrder(TrainingOrder):
    """A training whose query loss is reported after each epoch."""

    query: Side


def search(
    context: Context, settings: SearchConfig, pool: Side, query: Side
) -> tuple[FinetuneConfig, Artifact]:
    """Return the settings to fine-tune with, and the search they came from (`search.json`)."""
    config = context.config
    artifact = search_artifact(config, settings, pool, query)
    reused = artifact.complete
    if not reused:
        clock = artifact.clock()
        size = min(settings.rows or max(config.budget), pool.usable)
        rows = sample_rows(pool, size, settings.seed)
        subset = Subset.write(artifact / "examples.parquet", take_examples(pool, rows))
        trials = _drawn(settings)
        with clock.marked():
            _run(trials, subset, artifact, context, settings, query)
        results = _results(trials, artifact, config.finetune.epochs)
        write_json(artifact / RESULTS, results)
        for name in map(label, trials):
            remove_folder(artifact / name)
        artifact.commit(
            rows=size,
            seconds=clock.seconds,
            device=context.cluster.device,
            peak_mb=max(trial["peak_mb"] for trial in results["trials"]),
        )
    outcome: Search = read_json(artifact / RESULTS)
    context.log.made("search", "search", artifact, reused, _note(outcome))
    return with_point(config.finetune, outcome["best"]), artifact


def search_artifact(config: Config, settings: SearchConfig, pool: Side, query: Side) -> Artifact:
    """Return where a search lives."""
    return Artifact(
        config.artifact_root,
        "search",
        {
            "pool": pool.tokens.fingerprint,
            "query": query.tokens.fingerprint,
            "model": model_identity(config.model),
            "finetune": config.finetune.model_dump(mode="json", exclude={"workers", "save"}),
            "rows": settings.rows or max(config.budget),
            "search": settings.model_dump(mode="json", exclude={"rows"}),
            "threads": config.batch.threads,
        },
        VERSION,
    )


def with_point(finetune: FinetuneConfig, point: Point) -> FinetuneConfig:
    """Return the settings with a trial's values in their places."""
    return FinetuneConfig.model_validate(placed(finetune.model_dump(mode="json"), point))


def _drawn(settings: SearchConfig) -> list[Point]:
    """Return the combinations that are tried, in the order in which they start."""
    every = points(settings.over)
    order = np.random.default_rng(settings.seed).permutation(len(every))
    return [every[i] for i in order[: settings.trials]]


def _run(
    trials: list[Point],
    subset: Subset,
    artifact: Artifact,
    context: Context,
    settings: SearchConfig,
    query: Side,
) -> None:
    config, cluster = context.config, context.cluster
    orders = {
        label(point): TrialOrder(
            name=f"search {label(point)}",
            folder=artifact / label(point),
            subset=subset,
            model=config.model,
            lora=finetune.lora if finetune.method == "lora" else None,
            shard=False,
            training=finetune,
            seed=settings.seed,
            threads=config.batch.threads,
            device=cluster.device,
            query=query,
        )
        for point in trials
        for finetune in [with_point(config.finetune, point)]
    }
    epochs = config.finetune.epochs

    training = Activity("search", "epochs", len(orders) * epochs, "waiting for workers")

    def count(activity: Activity) -> None:
        activity.count(sum(len(_losses(order.folder)) for order in orders.values()))

    with context.log.watching(training, count):
        errors = run_trials(
            f"search-{artifact.fingerprint}",
            run_trial,
            orders,
            context.root,
            resources=cluster.trial_resources,
            at_once=cluster.actors,
            scheduler=asha("query_loss", epochs, settings.first_epochs, settings.reduction),
        )
    for trial, error in errors.items():
        why = killed_for_memory(error)
        why = f"its process {why}" if why else error.strip().splitlines()[-1]
        raise RuntimeError(
            f"search: trial {trial} failed twice: {why}; the same command continues the search"
        )


def run_trial(order: TrialOrder) -> None:
    """Train with one combination and report the query loss after each epoch (a Tune trial).

    A trial that was killed reports its earlier losses again, and continues from there.
    """
    assert order.subset is not None
    losses = _losses(order.folder)
    for epoch, loss in enumerate(losses, start=1):
        report_trial({"query_loss": loss, "epoch": epoch})
    queries = order.query.examples()

    def measured(metrics: dict[str, float]) -> None:
        loss = float(example_losses(model, queries).mean())
        model.train()
        losses.append(loss if math.isfinite(loss) else math.inf)
        progress = {"query_loss": _plain(losses), "peak_mb": peak_mb()}
        write_json(order.folder / "losses.json", progress)
        report_trial({"query_loss": losses[-1], "epoch": int(metrics["epoch"])})

    with cpu_threads(order.threads), ordered_model(order) as model:
        try:
            train(
                model,
                order.subset.examples(order.name),
                order.training,
                seed=order.seed,
                folder=order.folder / "checkpoints",
                on_epoch=measured,
            )
        except FloatingPointError as error:
            write_json(order.folder / "diverged.json", {"error": str(error)})
            report_trial({"query_loss": math.inf, "epoch": len(losses) + 1})


def _losses(folder: Place) -> list[float]:
    """Return the query loss after each epoch so far."""
    progress = find_json(folder / "losses.json") or {}
    return [math.inf if loss is None else float(loss) for loss in progress.get("query_loss", [])]


def _plain(losses: list[float]) -> list[float | None]:
    """Return losses for JSON, which has no infinity."""
    return [loss if loss < math.inf else None for loss in losses]


def _results(trials: list[Point], artifact: Artifact, epochs: int) -> Search:
    """Return what every trial came to, and the best of those that came to the end."""
    results = [
        Trial(
            settings=point,
            query_loss=_plain(_losses(folder)),
            diverged=(find_json(folder / "diverged.json") or {}).get("error"),
            peak_mb=(find_json(folder / "losses.json") or {}).get("peak_mb", 0.0),
        )
        for point in trials
        for folder in [artifact / label(point)]
    ]
    ended = [t for t in results if len(t["query_loss"]) == epochs and _last(t) < math.inf]
    if not ended:
        why = next((t["diverged"] for t in results if t["diverged"]), "no trial ran to its end")
        raise RuntimeError(
            f"search: none of {len(results)} trials gave a finite query loss ({why}); run the same "
            "command to try them again, or change search.over"
        )
    best = min(ended, key=_last)
    return {"best": best["settings"], "epochs": epochs, "trials": results}


def _last(trial: Trial) -> float:
    """Return the query loss after a trial's last epoch; infinite where it diverged."""
    loss = trial["query_loss"][-1]
    return math.inf if loss is None else loss


def _note(results: Search) -> str:
    """Return the outcome in words, for the log."""
    best = next(t for t in results["trials"] if t["settings"] == results["best"])
    stopped = sum(len(t["query_loss"]) < results["epochs"] for t in results["trials"])
    chosen = ", ".join(f"{key} {value}" for key, value in results["best"].items())
    return (
        f"{chosen}: query loss {_last(best):.3f} on random rows; {stopped} of "
        f"{len(results['trials'])} trials stopped early"
    )
