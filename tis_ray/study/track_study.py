"""Recording a study in MLflow: its config and data, its methods and their cells as they end, its winner and its bill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from tis_ray.analysis import Cell, Method, TableRow
from tis_ray.config import Config
from tis_ray.report import StudyRecord
from tis_ray.report.gains_section import method_costs
from tis_ray.stages.cells import CellPlan, FailedCell, StudyFailedError, train_losses
from tis_ray.stages.search import RESULTS
from tis_ray.storage import place
from tis_ray.store import fingerprint
from tis_ray.study.bill import bill
from tis_ray.study.labels import legend_of
from tis_ray.study.mlflow_limits import store_uri
from tis_ray.study.mlflow_tracker import open_tracker
from tis_ray.study.no_tracker import NullRun, NullTracker
from tis_ray.study.study import Study
from tis_ray.study.tracked_data import DataSet, data_sets
from tis_ray.study.tracked_numbers import (
    bill_numbers,
    method_numbers,
    method_tags,
    winner_numbers,
)

CELL_KEYS = ("representation", "selector", "budget", "seed", "quantile", "draw")
"""What names a cell."""
OWN_KEYS = ("quantile", "draw", "seed")
"""What tells it from the others of its method."""

Place = tuple[Method, int, bool]
"""A method, a budget, and whether it is of the distance-quantile experiment."""


def tracker_of(config: Config) -> NullTracker:
    """Open the tracker of a study. Raises InputError, before anything is computed, where its store cannot be used."""
    return open_tracker(
        enabled=config.tracking.enabled,
        uri=store_uri(config.tracking.uri, config.runs),
        experiment=config.tracking.experiment,
        artifact_root=place(config.runs).absolute() / "mlruns",
    )


@contextmanager
def tracked(study: Study, tracker: NullTracker) -> Iterator[None]:
    """Record what the study does inside."""
    config = study.config
    facts = study.tuned.config.model_dump(mode="json")
    tags = {"device": study.cluster.device, "tis.study": config.name}
    with tracker.study(config.name, study_fingerprint(config), config=facts, tags=tags) as run:
        if run.run_id is None:  # tracking is off, or the server is gone
            yield
            return
        data = data_sets(config, study.rows)
        run.log_datasets(data)
        failed: StudyFailedError | None = None
        with ExitStack() as stack:
            methods = _Methods(run, stack, config, data)
            methods.begin(study.plans)
            study.ended = partial(_track_cells, methods, run.finished_cells())
            try:
                yield
                cells = study.cells
            except StudyFailedError as error:
                failed = error
                _track_failed(methods, error.failed)
                cells = [cell for cell in error.results if not cell.quantile]
            rows = _track_methods(methods, study, cells)
        if failed is not None:
            raise failed
        _track_study(run, study, rows)


def study_fingerprint(config: Config) -> str:
    """Return what names a study in MLflow: its settings, without where and on what it runs."""
    elsewhere = {"compute", "tracking", "runs", "artifacts"}
    return fingerprint(config.model_dump(mode="json", exclude=elsewhere))


@dataclass
class _Methods:
    """The open runs of a study's methods, a run a method and budget; `stack` closes them."""

    study: NullRun
    stack: ExitStack
    config: Config
    data: list[DataSet]
    runs: dict[Place, NullRun] = field(default_factory=dict)

    def begin(self, plans: Sequence[CellPlan]) -> None:
        """Open the runs of all methods. MLflow shows the newest first: zero-shot, random, then the methods."""
        places = {_place(plan.representation, plan.selector, plan.budget): None for plan in plans}
        ranked = sorted(places, key=_rank)
        for spot in ranked[::-1]:
            self.of(spot)

    def of(self, place: Place) -> NullRun:
        """Return the run of a method."""
        if place not in self.runs:
            self.runs[place] = self.stack.enter_context(self._opened(place))
            self.runs[place].log_datasets(self.data)
        return self.runs[place]

    def _opened(self, place: Place) -> AbstractContextManager[NullRun]:
        method, budget, quantile = place
        label = legend_of(self.config).method(method) + (" quantiles" if quantile else "")
        names = {k: v for k, v in method.to_json().items() if v is not None} | {"budget": budget}
        tags: dict[str, object] = {f"tis.{name}": value for name, value in names.items()}
        tags |= {"tis.study": self.config.name, "tis.method": label}
        key = " ".join(map(str, (*names.values(), *(["quantiles"] if quantile else []))))
        name = f"@{budget} {label}" if budget else label  # MLflow cuts the end of a long name
        return self.study.method(name, key, params={"method": label, **names}, tags=tags)


def _place(
    representation: str, selector: str | None, budget: int, quantile: object = None
) -> Place:
    return Method(representation, selector), budget, bool(quantile)


def _rank(place: Place) -> tuple[bool, bool]:
    method, _, _ = place
    return not method.is_zero_shot, not method.is_random


def _track_methods(methods: _Methods, study: Study, cells: Sequence[Cell]) -> list[TableRow]:
    """Record what the cells of each method come to; return the table."""
    config = study.tuned.config
    record = StudyRecord(
        config.name,
        config=config.model_dump(mode="json"),
        cells=list(cells),
        legend=legend_of(config),
        stages=list(study.log.stages),
        budget_unit=config.budget_unit,
    )
    costs, rows = method_costs(record), record.table()
    own = defaultdict(list)
    for cell in cells:
        if cell.draw is None:
            own[cell.method, cell.budget].append(cell)
    for row in rows:
        run = methods.of((row.method, row.budget, False))
        run.log_metrics(
            method_numbers(row, rows, own[row.method, row.budget], costs.get(row.method))
        )
        run.set_tags(method_tags(row, rows))
    return rows


def _track_study(run: NullRun, study: Study, rows: Sequence[TableRow]) -> None:
    """Record what belongs to the study and not to a method."""
    numbers, tags = winner_numbers(rows)
    run.log_metrics({**numbers, **bill_numbers(study.config, bill(study.config, study.log.stages))})
    run.set_tags(tags)
    if study.search is not None:
        run.log_artifact(study.search / RESULTS)
    run.log_artifact(study.config.run_dir / "config.yaml")
    for ordering in study.orderings:
        run.log_artifact(ordering.file, f"orderings/{ordering.name}")
    if "record" in vars(study):  # the run went as far as the report
        run.log_artifact(study.config.run_dir / "report", "report")


def _track_cells(methods: _Methods, held: set[str], cells: list[Cell]) -> None:
    """Record cells, except those that an earlier run has recorded (`held`)."""
    tracking = methods.config.tracking
    for cell in cells:
        facts = cell.to_json()
        params, name = _named({key: facts.get(key) for key in CELL_KEYS})
        key = _key(cell.fingerprint, params)
        trained = place(cell.artifact) / cell.model if cell.artifact and cell.model else None
        if key in held and not (tracking.models and trained):
            continue
        method = methods.of(
            _place(cell.method.representation, cell.method.selector, cell.budget, cell.quantile)
        )
        tags: dict[str, object] = {"tis.study": methods.config.name, "tis.artifact": cell.artifact}
        tags |= {f"tis.{k}": v for k, v in params.items()}
        with method.cell(name, key, params=params, tags=tags) as run:
            if key not in held:
                numbers = {k: v for k, v in facts.items() if isinstance(v, int | float)}
                run.log_metrics({k: v for k, v in numbers.items() if k not in params})
                run.log_series("train_loss", dict(enumerate(train_losses(cell), start=1)))
                if (
                    trained and cell.model == "adapter"
                ):  # a whole model is too large to be kept unasked
                    run.log_artifact(trained)
            if tracking.models and trained:
                run.log_model(name, trained)


def _track_failed(methods: _Methods, failed: list[FailedCell]) -> None:
    """Record cells that failed, and that their methods lack them."""
    for lost in failed:
        cell = lost.cell
        quantile = list(cell.quantile) if cell.quantile else None
        facts = {key: getattr(cell, key) for key in CELL_KEYS} | {"quantile": quantile}
        params, name = _named(facts)
        method = methods.of(_place(cell.representation, cell.selector, cell.budget, cell.quantile))
        method.why_failed = method.why_failed or f"{name}: {lost.why}"
        with (
            suppress(RuntimeError),
            method.cell(name, _key(lost.fingerprint, params), params=params),
        ):
            raise RuntimeError(lost.why)


def _named(facts: Mapping[str, object]) -> tuple[dict[str, object], str]:
    """Return what names a cell, and its name in the tracker: first what tells it from the others of its method."""
    params = {k: v for k, v in facts.items() if k not in ("quantile", "draw") or v is not None}
    own = [f"{key} {params[key]}" for key in OWN_KEYS if params.get(key) is not None]
    method = [value for key, value in params.items() if key not in OWN_KEYS and value]
    return params, " ".join(map(str, (*own, *method)))


def _key(content: str | None, params: Mapping[str, object]) -> str:
    """Return what a cell is found again by in the tracker, whatever it is called there."""
    return " ".join(str(each) for each in (content, *params.values()) if each is not None)
