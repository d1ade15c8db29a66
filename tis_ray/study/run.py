"""A whole study, top to bottom: tokens, features, scores, orderings, cells, report.

Every stage finds its artifact by fingerprint and does only what is missing, so running the same
command again continues a run that was stopped and costs nothing when it had ended.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape

from tis_ray.config import Config, config_yaml, parse_config
from tis_ray.distributed.connect import connect
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.errors import InputError
from tis_ray.log import RunLog
from tis_ray.report import StudyRecord, build_report
from tis_ray.report.analyze import analyze
from tis_ray.report.study_results import RECORD
from tis_ray.stages.cells import CellPlan, FailedCell, StudyFailedError, plan_cells, sweep
from tis_ray.stages.context import Context
from tis_ray.stages.distances import measure_subsets
from tis_ray.stages.evaluation import check_evaluation
from tis_ray.stages.orderings import order_all
from tis_ray.stages.quantiles import plan_quantiles
from tis_ray.stages.represent import Representer
from tis_ray.stages.represented import Represented
from tis_ray.stages.screen import Screen, screen_pool
from tis_ray.stages.search import FOUND, search
from tis_ray.stages.study_ordering import StudyOrdering
from tis_ray.stages.tokens import prepare_side, read_side
from tis_ray.store import Artifact, fingerprint, write_bytes
from tis_ray.store.feature_store import DamagedShardError
from tis_ray.store.sides import SIDES, Side
from tis_ray.study.gather import study_record
from tis_ray.study.tracking import git_commit, open_tracker
from tis_ray.study.untracked import NullRun
from tis_ray.version import __version__

REPAIRS = 3
"""How many damaged feature shards one run repairs before it gives up: more is a failing disk."""

CELL_KEYS = ("representation", "selector", "budget", "seed", "quantile")
"""What names a cell."""

Until = Literal["featurize", "select", "evaluate", "report"]


@dataclass
class StudyResult:
    """What `run` returns: where things lie, and the results."""

    run_dir: Path
    orderings: list[StudyOrdering]
    cells: list[dict[str, Any]]
    quantiles: list[dict[str, Any]] = field(default_factory=list)
    record: StudyRecord | None = None
    parts: dict[str, StudyResult] = field(default_factory=dict)
    """The studies of a config with several tasks or a grid; the fields above are empty then."""

    @property
    def studies(self) -> list[StudyResult]:
        """This study, or all that it consists of."""
        return list(self.parts.values()) or [self]

    @property
    def report(self) -> Path:
        """The page."""
        return self.run_dir / "report" / "index.html"


def run(
    config: Config | dict[str, Any], until: Until = "report", console: Console | None = None
) -> StudyResult:
    """Run a study, or its stages up to `until`; finished work is reused.

    Raises InputError for bad input, and StudyFailedError when cells failed twice.
    """
    config = parse_config(config)
    if studies := config.parts():
        parts = {name: run(study, until, console) for name, study in studies.items()}
        if until == "report":
            analyze([study.run_dir for study in parts.values()], config.run_dir / "report")
        return StudyResult(config.run_dir, [], [], parts=parts)
    log = RunLog(config.run_dir, console or Console(stderr=True))
    write_bytes(config.run_dir / "config.yaml", config_yaml(config).encode())
    log.event("start", until=until, command=_command(), pid=os.getpid())
    begun = time.monotonic()
    try:
        with quiet_ray():
            result = _run_whole(config, until, log)
    except BaseException as error:
        log.event("failed", error=f"{type(error).__name__}: {error}")
        raise
    log.event("done", seconds=round(time.monotonic() - begun, 3))
    log.say(f"[bold]done[/bold] in {time.monotonic() - begun:.0f} s")
    return result


def _run_whole(config: Config, until: Until, log: RunLog) -> StudyResult:
    """Run; when a stored feature shard turns out damaged, it has been put aside: make it again."""
    for _ in range(REPAIRS):
        try:
            return _run(config, until, log)
        except DamagedShardError as damage:
            log.event("damaged", error=str(damage))
            log.say(f"[yellow]damaged:[/yellow] {escape(str(damage))}; computing its rows again")
    return _run(config, until, log)


def _run(config: Config, until: Until, log: RunLog) -> StudyResult:
    # A missing or broken file is told before anything is started.
    rows: dict[str, Artifact] = {side: read_side(config, side) for side in SIDES}
    check_evaluation(config, rows["test"], log)
    cluster = connect(config)
    log.say(
        f"[bold]{config.name}[/bold]: {cluster.actors} actor(s) x {cluster.threads} thread(s) on "
        f"{cluster.device}; Ray has {cluster.cpus} CPU(s), {cluster.gpus:g} GPU(s)"
    )
    context = Context(config, cluster, log)
    screen = screen_pool(context, rows)
    dropped = screen.dropped()
    pool, query, test = (
        prepare_side(context, side, rows[side], dropped=dropped if side == "pool" else None)
        for side in SIDES
    )
    if config.budget_unit == "examples" and max(config.budget) > pool.usable:
        raise InputError(
            f"budget: {max(config.budget)} exceeds the pool of {pool.usable} usable rows; "
            "lower the budget or enlarge the pool"
        )
    sides = {"pool": pool, "query": query}
    representer = Representer(context, rows, sides, dropped)
    represented = [
        representer.represent(name, scored=until != "featurize") for name in config.representation
    ]
    _link(config, represented)
    if until == "featurize":
        return StudyResult(config.run_dir, [], [])
    orderings = _order(context, represented, pool, query)
    if until == "select":
        return StudyResult(config.run_dir, orderings, [])
    tracker = open_tracker(
        enabled=config.tracking.enabled,
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        artifact_root=Path(config.runs).absolute() / "mlruns",
    )
    key = study_fingerprint(config)
    found: Artifact | None = None
    if config.search is not None:
        finetune, found = search(context, config.search, pool, query)
        config = config.model_copy(update={"finetune": finetune})
        context = Context(config, cluster, log)
    facts = config.model_dump(mode="json")
    with tracker.study(config.name, key, config=facts, tags={"device": cluster.device}) as tracked:
        plans = plan_cells(config, pool, orderings)
        parts: list[CellPlan] = []
        if config.quantiles is not None:
            parts = plan_quantiles(context, config.quantiles, represented, pool)
        track = partial(_track_cells, tracked, tracked.finished_cells())
        try:
            done = sweep([*plans, *parts], context, pool, query, test, track)
        except StudyFailedError as error:
            _track_failed(tracked, error.failed)
            raise
        cells, quantiles = done[: len(plans)], done[len(plans) :]
        result = StudyResult(config.run_dir, orderings, cells, quantiles)
        if until == "report":
            distances = measure_subsets(represented, plans, pool, context)
            key = _record_key(config, done, orderings, distances, screen, found)
            result.record = _record_of(config.run_dir, key)
            if result.record is None:
                result.record = study_record(
                    config,
                    cells,
                    quantiles,
                    orderings,
                    represented,
                    distances,
                    screen,
                    {"pool": pool, "query": query, "test": test},
                    log,
                    _command(),
                )
                result.record.made_from = key
                if found is not None:
                    result.record.search = json.loads((found / FOUND).read_text())
                result.record.save(config.run_dir / RECORD)
                build_report(result.record, config.run_dir / "report")
        if found is not None:
            tracked.log_artifact(found / FOUND)
        _track(tracked, result)
    return result


def _record_key(
    config: Config,
    cells: list[dict[str, Any]],
    orderings: list[StudyOrdering],
    distances: list[dict[str, Any]],
    screen: Screen,
    found: Artifact | None,
) -> str:
    """Return what names a record: where nothing of it has changed, the page is not drawn again."""
    return fingerprint(
        {
            "config": config.model_dump(mode="json", exclude={"compute"}),
            "cells": cells,
            "orderings": [ordering.artifact.fingerprint for ordering in orderings],
            "distances": distances,
            "screen": screen.artifact.fingerprint,
            "search": found.fingerprint if found else None,
            "code": [__version__, git_commit()],
        }
    )


def _record_of(run_dir: Path, key: str) -> StudyRecord | None:
    """Return the record of an earlier run that was made from the same, if its page is there too."""
    try:
        record = StudyRecord.load(run_dir / RECORD)
    except InputError:
        return None
    drawn = (run_dir / "report" / "index.html").exists()
    return record if drawn and record.made_from == key else None


def study_fingerprint(config: Config) -> str:
    """Return what names a study in MLflow: its settings, without where and on what it runs."""
    elsewhere = {"compute", "tracking", "runs", "artifacts"}
    return fingerprint(config.model_dump(mode="json", exclude=elsewhere))


def _track(study: NullRun, result: StudyResult) -> None:
    """Record what is of the study and not of a cell."""
    study.log_artifact(result.run_dir / "config.yaml")
    for ordering in result.orderings:
        study.log_artifact(ordering.file, f"orderings/{ordering.name}")
    if result.record is not None:
        study.log_artifact(result.run_dir / "report", "report")


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


def _order(
    context: Context,
    represented: list[Represented],
    pool: Side,
    query: Side,
) -> list[StudyOrdering]:
    orderings = []
    for found in represented:
        made = order_all(found, context, pool, query)
        for ordering in made:
            _point(context.config.run_dir / "orderings" / ordering.name, ordering.artifact)
        orderings += made
    return orderings


def _link(config: Config, represented: list[Represented]) -> None:
    for found in represented:
        if found.features is not None:
            _point(config.run_dir / "features" / found.name, found.features.artifact)
        if found.scores is not None:
            _point(config.run_dir / "scores" / found.name, found.scores)


def _point(link: Path, artifact: Artifact) -> None:
    """Make `link` point to an artifact; a link of an earlier config is replaced."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(artifact.path, link.parent))
    temporary.replace(link)


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
