"""Running the studies of a file: all are checked, then run one after the other, then shown on one page.

Every step finds its artifact by fingerprint and does only what is missing, so running the same
command again continues a run that was stopped and costs nothing when it had ended.
"""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape

from tis_ray.analysis import Cell
from tis_ray.config import Config, Part, config_yaml, parse_config, parts, require_test, together
from tis_ray.distributed.connect import connect
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.errors import FailedError, user_message
from tis_ray.log import RunLog
from tis_ray.report import StudyRecord
from tis_ray.report.analyze import analyze
from tis_ray.stages.ordering_artifact import StudyOrdering
from tis_ray.store import write_bytes
from tis_ray.store.feature_store import DamagedShardError
from tis_ray.study.study import Rows, Study, checked_rows, command
from tis_ray.study.track_study import tracked

REPAIRS = 3
"""How many damaged feature shards one run repairs before it gives up: more is a failing disk."""

Until = Literal["featurize", "select", "evaluate", "report"]
MEASURED: tuple[Until, ...] = ("evaluate", "report")
"""Steps that train models and measure them on test rows."""


@dataclass
class StudyResult:
    """What `run` returns: the results, and the folder of the run."""

    run_dir: Path
    orderings: list[StudyOrdering] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    """The study's cells, with zero-shot and random; `to_json()` of one is a flat dict."""
    quantiles: list[Cell] = field(default_factory=list)
    """The cells of the distance-quantile experiment."""
    record: StudyRecord | None = None
    parts: dict[str, StudyResult] = field(default_factory=dict)
    """The studies of a file with several tasks or a grid, by name; the fields above are empty then."""

    @property
    def studies(self) -> list[StudyResult]:
        """This study, or all that it consists of."""
        return list(self.parts.values()) or [self]

    @property
    def subsets(self) -> list[Path]:
        """The selected rows as they came: a file for each ordering and budget."""
        return sorted((self.run_dir / "subsets").glob("*"))

    @property
    def report(self) -> Path:
        """The page."""
        return self.run_dir / "report" / "index.html"


class PartsFailedError(FailedError):
    """Some studies of a file failed, a line each; `result` has the others."""

    def __init__(self, failed: dict[str, str], result: StudyResult) -> None:
        super().__init__("\n".join(f"{name}: {why}" for name, why in failed.items()))
        self.failed, self.result = failed, result


def run(
    config: Config | dict[str, Any], until: Until = "report", console: Console | None = None
) -> StudyResult:
    """Run the studies of a config, or their steps up to `until`; finished work is reused.

    Raises InputError for bad input of any study, before the first begins; StudyFailedError when cells
    failed twice; and PartsFailedError when some of several studies failed, after the others have ended.
    """
    config = parse_config(config)
    if until in MEASURED:
        require_test(config)
    page, begun = together(config), []
    for part in parts(config):
        log = RunLog(part.config.run_dir, console or Console(stderr=True))
        write_bytes(part.config.run_dir / "config.yaml", config_yaml(part.config).encode())
        log.event("start", until=until, command=command(), pid=os.getpid())
        begun.append((part, log))
    checked = _checked(begun, until)
    if page is None:
        return _run(*checked[0], until)
    done: dict[str, StudyResult] = {}
    failed: dict[str, str] = {}
    for part, rows, log in checked:
        name = part.config.name
        try:
            done[name] = _run(part, rows, log, until)
        except Exception as error:
            failed[name] = _line(error, part.config.run_dir)
            log.say(f"[red]failed:[/red] {escape(name)}: {escape(failed[name])}")
    if until == "report" and done:
        analyze([study.run_dir for study in done.values()], page / "report")
    result = StudyResult(page, parts=done)
    if failed:
        raise PartsFailedError(failed, result)
    return result


def _checked(begun: list[tuple[Part, RunLog]], until: Until) -> list[tuple[Part, Rows, RunLog]]:
    """Read the rows of all studies; one that cannot run stops the others before they start."""
    try:
        trained = until in MEASURED
        return [(part, checked_rows(part.config, log, trained), log) for part, log in begun]
    except BaseException as error:
        for _, log in begun:
            _tell_failed(log, error)
        raise


def _run(part: Part, rows: Rows, log: RunLog, until: Until) -> StudyResult:
    """Run one study; where a stored feature shard is damaged it has been put aside: make it again."""
    start = time.monotonic()
    try:
        for repairs in range(REPAIRS + 1):
            try:
                with quiet_ray():
                    result = _steps(part, rows, log, until)
                break
            except DamagedShardError as damage:
                if repairs == REPAIRS:
                    raise
                log.event("damaged", error=str(damage))
                log.say(
                    f"[yellow]damaged:[/yellow] {escape(str(damage))}; computing its rows again"
                )
    except BaseException as error:
        _tell_failed(log, error)
        raise
    log.event("done", seconds=round(time.monotonic() - start, 3))
    log.say(f"[bold]done[/bold] in {time.monotonic() - start:.0f} s")
    return result


def _steps(part: Part, rows: Rows, log: RunLog, until: Until) -> StudyResult:
    config = part.config
    cluster = connect(config)
    log.say(
        f"[bold]{config.name}[/bold]: {cluster.actors} actor(s) x {cluster.threads} thread(s) on "
        f"{cluster.device}; Ray has {cluster.cpus} CPU(s), {cluster.gpus:g} GPU(s)"
    )
    study = Study(config, cluster, log, part, rows)
    result = StudyResult(config.run_dir)
    _ = study.sides
    if until == "featurize":
        _ = study.features
        return result
    result.orderings, _ = study.orderings, study.subsets
    if until == "select":
        return result
    with tracked(study):
        result.cells, result.quantiles = study.cells, study.quantiles
        if until == "report":
            result.record = study.record
    return result


def _tell_failed(log: RunLog, error: BaseException) -> None:
    log.event("failed", error=f"{type(error).__name__}: {error}")


def _line(error: Exception, run_dir: Path) -> str:
    """Return why a study failed in a line; the traceback of what nobody foresaw goes to a file."""
    known = user_message(error) or (str(error) if isinstance(error, FailedError) else None)
    if known is None:
        path = run_dir / "error.txt"
        write_bytes(path, "".join(traceback.format_exception(error)).encode())
        known = f"{type(error).__name__}: {error}; see {path}"
    return " ".join(known.split())
