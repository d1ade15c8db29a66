"""Recording a study in MLflow: its config, its cells as they end, its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tis_ray.analysis import Cell
from tis_ray.config import Config
from tis_ray.stages.cells import FailedCell, StudyFailedError, train_losses
from tis_ray.stages.search import RESULTS
from tis_ray.store import fingerprint
from tis_ray.study.mlflow_tracker import open_tracker
from tis_ray.study.no_tracker import NullRun
from tis_ray.study.study import Study

CELL_KEYS = ("representation", "selector", "budget", "seed", "quantile", "draw")
"""What names a cell."""


@contextmanager
def tracked(study: Study) -> Iterator[None]:
    """Record what the study does inside."""
    config = study.config
    tracker = open_tracker(
        enabled=config.tracking.enabled,
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        artifact_root=Path(config.runs).absolute() / "mlruns",
    )
    facts = study.tuned.config.model_dump(mode="json")
    tags = {"device": study.cluster.device}
    with tracker.study(config.name, study_fingerprint(config), config=facts, tags=tags) as run:
        study.ended = partial(_track_cells, run, run.finished_cells())
        try:
            yield
        except StudyFailedError as error:
            _track_failed(run, error.failed)
            raise
        _track_study(run, study)


def study_fingerprint(config: Config) -> str:
    """Return what names a study in MLflow: its settings, without where and on what it runs."""
    elsewhere = {"compute", "tracking", "runs", "artifacts"}
    return fingerprint(config.model_dump(mode="json", exclude=elsewhere))


def _track_study(run: NullRun, study: Study) -> None:
    """Record what belongs to the study and not to a cell."""
    if study.search is not None:
        run.log_artifact(study.search / RESULTS)
    run.log_artifact(study.config.run_dir / "config.yaml")
    for ordering in study.orderings:
        run.log_artifact(ordering.file, f"orderings/{ordering.name}")
    if "record" in vars(study):  # the run went as far as the report
        run.log_artifact(study.config.run_dir / "report", "report")


def _track_cells(study: NullRun, held: set[str], cells: list[Cell]) -> None:
    """Record cells, except those that an earlier run has recorded (`held`)."""
    for cell in cells:
        facts = cell.to_json()
        method, name = _named({key: facts.get(key) for key in CELL_KEYS})
        key = f"{cell.fingerprint} {name}"
        if key in held:
            continue
        with study.cell(name, key, params=method) as run:
            run.set_tags({"tis.artifact": cell.artifact})
            numbers = {k: v for k, v in facts.items() if isinstance(v, int | float)}
            run.log_metrics({k: v for k, v in numbers.items() if k not in method})
            run.log_series("train_loss", dict(enumerate(train_losses(cell), start=1)))
            if (
                cell.artifact and cell.model == "adapter"
            ):  # a whole model is too large for the tracker
                run.log_artifact(Path(cell.artifact) / "adapter")


def _track_failed(study: NullRun, failed: list[FailedCell]) -> None:
    for lost in failed:
        quantile = list(lost.cell.quantile) if lost.cell.quantile else None
        facts = {key: getattr(lost.cell, key) for key in CELL_KEYS} | {"quantile": quantile}
        method, name = _named(facts)
        with (
            suppress(RuntimeError),
            study.cell(name, f"{lost.fingerprint} {name}", params=method),
        ):
            raise RuntimeError(lost.why)


def _named(facts: Mapping[str, object]) -> tuple[dict[str, object], str]:
    """Return what names a cell, and its name in the tracker."""
    method = {k: v for k, v in facts.items() if k not in ("quantile", "draw") or v is not None}
    return method, " ".join(str(value) for value in method.values() if value is not None)
