"""The training stage: all cells of a study, each trained and evaluated once by Ray Tune.

A cell's artifact is named by what it trains on and how, so equal cells of two methods, or of two
runs, are one artifact. Finished cells are not handed to Tune at all.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from tis_ray.analysis.quantiles import Quantile
from tis_ray.analysis.study_values import ZERO_SHOT, ZERO_SHOT_PLAIN, Cell, StageCost
from tis_ray.config import Config
from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.lost import killed_for_memory
from tis_ray.distributed.trials import report_trial, run_trials
from tis_ray.distributed.worker_group import run_training
from tis_ray.errors import FailedError
from tis_ray.log import Activity
from tis_ray.models.loading import model_identity
from tis_ray.selectors.constraints import Filled
from tis_ray.settings import FinetuneConfig
from tis_ray.stages.cell_evaluation import NO_TEMPLATE, Evaluation, row_values
from tis_ray.stages.cell_training import CellOrder, cell_loop
from tis_ray.stages.constrain import Constrainer, random_fill
from tis_ray.stages.context import Context
from tis_ray.stages.ordering_artifact import StudyOrdering
from tis_ray.stages.training_rows import Subset, take_examples, training_progress
from tis_ray.storage import Place, has_file, pace, place
from tis_ray.store import (
    Artifact,
    find_json,
    fingerprint,
    read_json,
    read_lines,
    write_json,
    write_text,
)
from tis_ray.store.sides import Side

VERSION = 3
"""Of `cell-*`; 2: a single step has the peak learning rate; 3: the loss of each query is kept."""


@dataclass(frozen=True)
class CellPlan:
    """One point of the study.

    positions: the subset's places among the usable pool rows. filled: what its budget came to.
    quantile: of the distance-quantile experiment; None for the study's own cells.
    draw: which draw selected the subset; None for the study's own.
    """

    representation: str
    selector: str | None
    budget: int
    seed: int | None
    positions: np.ndarray
    filled: Filled | None = None
    quantile: Quantile | None = None
    draw: int | None = None

    def __post_init__(self) -> None:
        if not (self.zero_shot or len(self.positions)):
            raise ValueError(f"{self.label} has no rows to train on")

    @property
    def zero_shot(self) -> bool:
        """Whether the model is measured as it is."""
        return self.selector is None

    @property
    def label(self) -> str:
        """The cell in words."""
        if self.selector is None:
            return self.representation.replace("_", "-", 1)
        name = (
            "random"
            if self.representation == "random"
            else f"{self.representation} {self.selector}"
        )
        if self.quantile is not None:
            return f"{name} quantile {'.'.join(map(str, self.quantile))} seed {self.seed}"
        name = f"{name} B={self.budget}"
        return f"{name} seed {self.seed}" if self.draw is None else f"{name} draw {self.draw}"


@dataclass(frozen=True)
class FailedCell:
    """A cell without a result: its artifact's fingerprint, and the error in a line."""

    cell: CellPlan
    fingerprint: str
    why: str


class StudyFailedError(FailedError):
    """Some cells failed; the message names them and the first error. `results` are of the others."""

    def __init__(self, message: str, failed: list[FailedCell], results: list[Cell]) -> None:
        super().__init__(message)
        self.failed, self.results = failed, results


def plan_cells(
    config: Config, pool: Side, orderings: list[StudyOrdering], drawn: Sequence[StudyOrdering] = ()
) -> list[CellPlan]:
    """Return every cell of the study, with zero-shot and random at each budget and seed.

    Zero-shot is two cells, with the study's template and without: one artifact, one model loaded.
    Random draws a permutation of the usable pool for each seed; its budgets are prefixes too, and
    its subsets keep to the study's constraints. drawn: the orderings of draws; each is trained on with
    one seed, which take turns.
    """
    constrainer = Constrainer(config, pool)
    rows_N = constrainer.rows
    nothing = np.array([], dtype=np.int64)
    cells = [CellPlan(name, None, 0, None, nothing) for name in (ZERO_SHOT, ZERO_SHOT_PLAIN)]
    for seed in config.seed:
        rows, filled = random_fill(constrainer, seed)
        places = np.searchsorted(rows_N, rows)
        cells += [
            CellPlan("random", "random", each.budget, seed, places[: each.rows], each)
            for each in filled
        ]
    for ordering in (*orderings, *drawn):
        places = np.searchsorted(rows_N, ordering.table()["index"].to_numpy())
        seeds = [seed for seed in config.seed if ordering.seed in (None, seed)]
        if ordering.draw is not None:
            seeds = [config.seed[ordering.draw % len(config.seed)]]
        cells += [
            CellPlan(
                ordering.representation,
                ordering.selector,
                each.budget,
                seed,
                places[: each.rows],
                each,
                draw=ordering.draw,
            )
            for each in ordering.filled().values()
            for seed in seeds
        ]
    return cells


def cell_artifact(cell: CellPlan, config: Config, pool: Side, evaluation: Evaluation) -> Artifact:
    """Return where a cell's model and metrics live."""
    inputs = {**_training_inputs(cell, config, pool), **evaluation.inputs()}
    return Artifact(config.artifact_root, "cell", inputs, VERSION)


def _training_inputs(cell: CellPlan, config: Config, pool: Side) -> dict[str, object]:
    """Return what a trained model depends on."""
    subset = fingerprint({"pool": pool.tokens.fingerprint, "rows": cell.positions.tolist()})
    return {
        "subset": subset,
        "seed": cell.seed,
        "model": model_identity(config.model),
        "finetune": None if cell.zero_shot else _settings(config.finetune),
        "threads": config.batch.threads,
    }


def _settings(finetune: FinetuneConfig) -> dict[str, object]:
    """Return what of the settings a trained model depends on."""
    unused = {"lora"} if finetune.method == "full" else set()
    return finetune.model_dump(mode="json", exclude=unused)


def sweep(
    cells: list[CellPlan],
    context: Context,
    pool: Side,
    query: Side,
    test: Side,
    ended: Callable[[list[Cell]], None] = lambda results: None,
) -> list[Cell]:
    """Train and evaluate what is not done yet; return one result per cell, in the order given.

    `ended` is called with results while other cells are still trained, once for each. A failed cell is
    tried once more, then named in StudyFailedError after all others have ended.
    """
    start = time.monotonic()
    config, log, cluster = context.config, context.log, context.cluster
    evaluation = Evaluation.of(config, query, test)
    artifacts = [cell_artifact(cell, config, pool, evaluation) for cell in cells]
    todo = {
        artifact.fingerprint: (cell, artifact)
        for cell, artifact in zip(cells, artifacts, strict=True)
        if not artifact.complete
    }
    reused = sum(artifact.complete for artifact in artifacts)
    rows = CellRows(pool, [cell for cell, _ in todo.values()])
    orders = {
        key: _order(cell, artifact, context, pool, rows, evaluation)
        for key, (cell, artifact) in todo.items()
    }
    pairs = list(zip(cells, artifacts, strict=True))
    reported: set[int] = set()

    def report_ended() -> set[str]:
        """Tell of cells that have ended since; return what names all that have."""
        fresh = [i for i, pair in enumerate(pairs) if i not in reported and pair[1].complete]
        if fresh:
            ended([_result(*pairs[i]) for i in fresh])
            reported.update(fresh)
        return {pairs[i][1].fingerprint for i in reported}

    if orders:
        log.event("cells", total=len(cells), reused=reused, to_train=len(orders))
        _train_all(orders, context, report_ended)
    report_ended()
    results = [_result(cell, artifact) for cell, artifact in pairs if artifact.complete]
    failed = [
        FailedCell(cell, artifact.fingerprint, _why(artifact))
        for cell, artifact in pairs
        if not artifact.complete
    ]
    if failed:
        folder = config.artifact_root / f"cell-{failed[0].fingerprint}"
        labels = ", ".join(lost.cell.label for lost in failed[:3])
        raise StudyFailedError(
            f"{len(failed)} of {len(cells)} cells failed ({labels}); first: {failed[0].why}; "
            f"see {folder / 'error.txt'}; run the same command to try them again",
            failed,
            results,
        )
    log.finished(
        StageCost(
            stage="fine-tune, evaluate",
            kind="training",
            artifact=str(config.artifact_root / "cell-*"),
            seconds=time.monotonic() - start,
            reused=not orders,
            rows=len(cells),
            quarantined=0,
            device=cluster.device,
            peak_mb=max(result.peak_mb or 0.0 for result in results),
        ),
        f"{len(cells)} cells, {reused} reused" if reused else f"{len(cells)} cells",
    )
    return results


class CellRows:
    """The token rows of several cells: each shard that holds some of them is read once."""

    def __init__(self, pool: Side, cells: Sequence[CellPlan]) -> None:
        positions = [cell.positions for cell in cells if not cell.zero_shot]
        self._positions = np.unique(np.concatenate([np.zeros(0, np.int64), *positions]))
        self._rows = take_examples(pool, self._positions) if len(self._positions) else None

    def of(self, cell: CellPlan) -> pa.Table:
        """Return the rows of a cell, in their order."""
        assert self._rows is not None
        return self._rows.take(pa.array(np.searchsorted(self._positions, cell.positions)))


def _why(artifact: Artifact) -> str:
    lines = [line for line in read_lines(artifact / "error.txt") if line.strip()]
    return lines[-1].strip() if lines else "no message"


def _order(
    cell: CellPlan,
    artifact: Artifact,
    context: Context,
    pool: Side,
    rows: CellRows,
    evaluation: Evaluation,
) -> CellOrder:
    """Write the rows that the training process reads; return its order."""
    config, cluster = context.config, context.cluster
    artifact.path.mkdir(parents=True, exist_ok=True)
    (artifact / "error.txt").unlink(missing_ok=True)
    named = {**_training_inputs(cell, config, pool), "version": VERSION}
    note = config.artifact_root / f"trained-{fingerprint(named)}.json"
    subset = None
    if not cell.zero_shot:
        subset = Subset.write(artifact / "examples.parquet", rows.of(cell))
    return CellOrder(
        name=cell.label,
        folder=artifact.path,
        subset=subset,
        model=config.model,
        lora=config.finetune.lora if config.finetune.method == "lora" else None,
        shard=config.finetune.shard,
        training=config.finetune,
        seed=cell.seed or 0,
        threads=config.batch.threads,
        device=cluster.device,
        artifact=artifact,
        evaluation=evaluation,
        note=note,
        trained=None if cell.zero_shot else _trained(note),
        save=config.finetune.save,
        workers=config.finetune.workers,
    )


def _trained(note: Place) -> Place | None:
    """Return the folder of a cell with this very adapter that was measured on something else.

    The random subsets of several tasks are such cells, and a study that is given another metric.
    """
    known = find_json(note)
    if known is None:
        return None
    folder = note.parent / known["cell"]
    whole = has_file(folder / "_SUCCESS") and (folder / "adapter").is_dir()
    return folder if whole else None


def _train_all(
    orders: dict[str, CellOrder],
    context: Context,
    report_ended: Callable[[], set[str]],
) -> None:
    training = Activity("fine-tune, evaluate", "cells", len(orders), "waiting for workers")

    def count(activity: Activity) -> None:
        ended = report_ended()
        running = [order.folder for key, order in orders.items() if key not in ended]
        steps = [training_progress(folder) for folder in running]
        if any(total for _, total in steps):
            step, total = (sum(each) for each in zip(*steps, strict=True))
            activity.state = f"training the first: step {step} of {total}"
        activity.count(len(orders) - len(running))

    workers, cluster = context.config.finetune.workers, context.cluster
    often = pace(context.root, 0.5, requests=2 * len(orders))
    with context.log.watching(training, count, often):
        errors = run_trials(
            f"study-{fingerprint(sorted(orders))}",
            partial(run_cell, cluster=cluster, workers=workers, root=context.root),
            orders,
            context.root,
            # With workers, the trial only waits for them.
            resources={"CPU": 0.01} if workers else cluster.trial_resources,
            at_once=max(1, cluster.actors // max(1, workers)),
        )
    for key, error in errors.items():
        _keep_error(orders[key], error)


def _keep_error(order: CellOrder, error: str) -> None:
    """Write Ray's account of a lost process to `error.txt`; an error of the cell's own is there already.

    The last line is the one that is shown.
    """
    file = order.artifact / "error.txt"
    why = killed_for_memory(error)
    if why is not None or not file.exists():
        write_text(file, f"{error.rstrip()}\n{order.name}: its process {why or 'was lost'}\n")


def run_cell(order: CellOrder, cluster: Cluster, workers: int, root: Place) -> None:
    """Fine-tune and evaluate one cell (a Tune trial)."""
    artifact = order.artifact
    try:
        run_training(artifact.path.name, cell_loop, order, workers, cluster, root)
    except Exception as error:
        write_text(artifact / "error.txt", "".join(traceback.format_exception(error)))
        raise
    (artifact / "error.txt").unlink(missing_ok=True)
    metrics = read_json(artifact / "metrics.json")
    artifact.commit(
        rows=metrics["train_rows"],
        seconds=metrics["seconds"],
        device=cluster.device,
        peak_mb=metrics["peak_mb"],
    )
    if metrics.get("model") == "adapter":
        write_json(order.note, {"cell": artifact.path.name})
    report_trial({"test_loss": metrics["test_loss"], "query_loss": metrics["query_loss"]})


def _result(cell: CellPlan, artifact: Artifact) -> Cell:
    metrics = read_json(artifact / "metrics.json")
    plain = metrics.pop(NO_TEMPLATE, {})
    folder = artifact.path
    if cell.representation == ZERO_SHOT_PLAIN:
        untrained = ("train_rows", "train_tokens", "optimizer_steps", "peak_mb")
        metrics = {name: metrics[name] for name in untrained} | plain
        folder /= NO_TEMPLATE
    named = {
        "representation": cell.representation,
        "selector": cell.selector,
        "budget": cell.budget,
        "seed": cell.seed,
        "subset": asdict(cell.filled) if cell.filled else None,
        "quantile": cell.quantile,
        "draw": cell.draw,
        "rows": row_values(folder, metrics),
        "fingerprint": artifact.fingerprint,
        "artifact": str(artifact.path),
    }
    return Cell.from_json(named | metrics)


def train_losses(cell: Cell) -> list[float]:
    """Read the loss after each step of a cell's training from its artifact; none for zero-shot."""
    assert cell.artifact is not None
    losses: list[float] = read_json(place(cell.artifact) / "metrics.json").get("train_loss", [])
    return losses
