"""What of a study stands in MLflow: its config, its cells as they end, its report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tis_ray.config import Config
from tis_ray.stages.cells import FailedCell, StudyFailedError
from tis_ray.stages.search import FOUND
from tis_ray.store import fingerprint
from tis_ray.study.study import Study
from tis_ray.study.tracking import NullRun, open_tracker

CELL_KEYS = ("representation", "selector", "budget", "seed", "quantile")
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
    """Record what is of the study and not of a cell."""
    if study.search is not None:
        run.log_artifact(study.search / FOUND)
    run.log_artifact(study.config.run_dir / "config.yaml")
    for ordering in study.orderings:
        run.log_artifact(ordering.file, f"orderings/{ordering.name}")
    if "record" in vars(study):  # it is a step that was asked for
        run.log_artifact(study.config.run_dir / "report", "report")


def _track_cells(study: NullRun, held: set[str], cells: list[dict[str, Any]]) -> None:
    """Record cells, but for those that an earlier run has recorded (`held`)."""
    for cell in cells:
        method, name = _named({key: cell.get(key) for key in CELL_KEYS})
        key = f"{cell['fingerprint']} {name}"
        if key in held:
            continue
        with study.cell(name, key, params=method) as run:
            run.set_tags({"tis.artifact": cell["artifact"]})
            numbers = {k: v for k, v in cell.items() if isinstance(v, int | float)}
            run.log_metrics({k: v for k, v in numbers.items() if k not in method})
            run.log_series("train_loss", dict(enumerate(cell.get("train_loss", []), start=1)))
            if cell.get("model") == "adapter":  # a whole model is too large for the tracker
                run.log_artifact(Path(cell["artifact"]) / "adapter")


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


def _named(facts: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return what names a cell, and its name in the tracker."""
    method = {k: v for k, v in facts.items() if k != "quantile" or v is not None}
    return method, " ".join(str(value) for value in method.values() if value is not None)
