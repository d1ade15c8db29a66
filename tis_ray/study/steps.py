"""The steps of the studies of a file, one study after the other: what `tis_ray.study.run` does where not all is done.

It loads PyTorch and Ray, which takes seconds; who only wants to know that all is done does without.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tis_ray.config import Part
from tis_ray.distributed.connect import connect
from tis_ray.distributed.observed import observed
from tis_ray.distributed.preflight import check_nodes
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.errors import InputError
from tis_ray.log import RunLog
from tis_ray.report.analyze import analyze
from tis_ray.stages.context import Context
from tis_ray.storage import Place, place
from tis_ray.store import read_manifest
from tis_ray.store.feature_store import DamagedShardError
from tis_ray.study.no_tracker import NullTracker
from tis_ray.study.result import (
    MEASURED,
    PartsFailedError,
    StudyResult,
    Until,
    failure,
    tell_failed,
)
from tis_ray.study.study import Rows, Study, checked_rows, models_of, with_pool
from tis_ray.study.track_study import tracked, tracker_of

REPAIRS = 3
"""How many damaged feature shards one run repairs before it gives up: more is a failing disk."""

Begun = list[tuple[Part, RunLog]]
"""The studies of a file whose start is recorded, each with its log."""


def run_steps(begun: Begun, page: Place | None, until: Until) -> StudyResult:
    """Run the studies up to `until`; `page` is the folder of the page over all, where there are several.

    Errors are those of `tis_ray.study.run.run`.
    """
    checked = _checked(begun, until)
    if page is None:
        return _run(checked[0], until)
    done: dict[str, StudyResult] = {}
    failed: dict[str, str] = {}
    for each in checked:
        name = each.part.config.name
        try:
            done[name] = _run(each, until)
        except Exception as error:
            failed[name] = failure(error, each.part.config.run_dir)
            each.log.say(("failed:", "red"), f" {name}: {failed[name]}")
    if until == "report" and done:
        with begun[-1][1].waiting("page of all studies", "drawing"):
            analyze([study.run_dir for study in done.values()], page / "report")
    result = StudyResult(page, parts=done)
    if failed:
        raise PartsFailedError(failed, result)
    return result


@dataclass(frozen=True)
class _Checked:
    """A study that can run: nothing is known to be missing."""

    part: Part
    rows: Rows
    tracker: NullTracker
    log: RunLog


def _checked(begun: Begun, until: Until) -> list[_Checked]:
    """Try the trackers and read the rows of all studies; one that cannot run stops the others before they start.

    Raises InputError, which names that one where there are several.
    """
    checked = []
    try:
        for part, log in begun:
            name = part.config.name
            try:
                tracker = NullTracker()
                if until in MEASURED and part.config.tracking.enabled:
                    with log.waiting(name, "opening MLflow's store"):
                        tracker = tracker_of(part.config)
                with log.waiting(name, "reading rows, checking models"):
                    rows = checked_rows(part.config, log, until in MEASURED)
            except InputError as error:
                raise error if len(begun) == 1 else InputError(f"{name}: {error}") from None
            checked.append(_Checked(part, rows, tracker, log))
    except BaseException as error:
        for _, log in begun:
            tell_failed(log, error)
        raise
    return checked


def _run(checked: _Checked, until: Until) -> StudyResult:
    """Run one study; where a stored feature shard is damaged it has been put aside: make it again."""
    start, part, log = time.monotonic(), checked.part, checked.log
    try:
        for repairs in range(REPAIRS + 1):
            try:
                with quiet_ray(), log.waiting(part.config.name, "preparing the next step"):
                    result = _steps(checked, until)
                break
            except DamagedShardError as damage:
                if repairs == REPAIRS:
                    raise
                log.event("damaged", error=str(damage))
                log.say(("damaged:", "yellow"), f" {damage}; computing its rows again")
    except BaseException as error:
        tell_failed(log, error)
        raise
    log.event("done", seconds=round(time.monotonic() - start, 3))
    log.say(("done", "bold"), f" in {time.monotonic() - start:.0f} s")
    return result


def _steps(checked: _Checked, until: Until) -> StudyResult:
    part, log = checked.part, checked.log
    config = part.config
    with log.waiting(config.name, "starting Ray") as activity:
        cluster = connect(config, activity.now)
    with log.waiting(config.name, "asking the nodes"):
        check_nodes(config, models_of(config))
    log.say(
        (config.name, "bold"),
        f": {cluster.actors} actor(s) x {cluster.threads} thread(s) on {cluster.device}; Ray has {cluster.cpus} CPU(s), {cluster.gpus:g} GPU(s)",
    )
    with observed(log):
        rows = with_pool(Context(config, cluster, log), checked.rows)
        study = Study(config, cluster, log, part, rows)
        return _result(study, checked.tracker, until)


def _result(study: Study, tracker: NullTracker, until: Until) -> StudyResult:
    config, log = study.config, study.log
    result = StudyResult(config.run_dir, stages=log.stages, said=log.said)
    _ = study.sides
    if until == "featurize":
        _ = study.features
    else:
        result.orderings, _ = study.orderings, study.subsets
    if until in MEASURED:
        with tracked(study, tracker):
            result.cells, result.quantiles = study.cells, study.quantiles
            if until == "report":
                with log.waiting("page", "gathering and drawing"):
                    result.record = study.record
    result.made = _made(study, result)
    return result


def _made(study: Study, result: StudyResult) -> list[Place]:
    """Return the folders of artifacts that a study rests on."""
    made = [artifact.path for artifact in study.rows.values()]
    made += [place(stage.artifact) for stage in study.log.stages if "*" not in stage.artifact]
    made += [ordering.artifact.path for ordering in vars(study).get("drawn", [])]
    cells = [*result.cells, *result.quantiles]
    made += [place(cell.artifact) for cell in cells if cell.artifact]
    for folder in [*dict.fromkeys(made)]:
        store = read_manifest(folder).details.get("store")
        if isinstance(store, str):
            made.append(study.root / store)
    return [*dict.fromkeys(made)]
