"""What running a study returns, and how a start that fails or is stopped is recorded."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tis_ray.analysis import Cell
from tis_ray.analysis.study_values import StageCost
from tis_ray.errors import FailedError, failure_line, refusal, user_message
from tis_ray.log import RunLog, Said
from tis_ray.log.run_log import RUN_LOG
from tis_ray.stages.ordering_artifact import StudyOrdering
from tis_ray.stopping import CONTINUES
from tis_ray.storage import Place, followed, listed

if TYPE_CHECKING:
    from tis_ray.report import StudyRecord

Until = Literal["featurize", "select", "evaluate", "report"]
STEPS: tuple[Until, ...] = ("featurize", "select", "evaluate", "report")
"""How far a study can be run; each has what is before it."""
MEASURED: tuple[Until, ...] = ("evaluate", "report")
"""Steps that train models and measure them on test rows."""


@dataclass
class StudyResult:
    """What `run` returns: the results, and the folder of the run."""

    run_dir: Place
    orderings: list[StudyOrdering] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    """The study's cells, with zero-shot and random; `to_json()` of one is a flat dict."""
    quantiles: list[Cell] = field(default_factory=list)
    """The cells of the distance-quantile experiment."""
    record: StudyRecord | None = None
    parts: dict[str, StudyResult] = field(default_factory=dict)
    """The studies of a file with several tasks or a grid, by name; the fields above are empty then."""
    stages: list[StageCost] = field(default_factory=list)
    """What each stage cost."""
    said: list[Said] = field(default_factory=list)
    """What was said of each of `stages`."""
    made: list[Place] = field(default_factory=list)
    """The folders of artifacts that the results rest on."""

    @property
    def studies(self) -> list[StudyResult]:
        """This study, or all that it consists of."""
        return list(self.parts.values()) or [self]

    @property
    def subsets(self) -> list[Place]:
        """The selected rows as they came: a file for each ordering and budget."""
        folder = self.run_dir / "subsets"
        # By its name in the run's folder, where a link leads there.
        linked = isinstance(folder, Path) and folder.is_dir()
        return listed(folder if linked else followed(folder), "*")

    @property
    def report(self) -> Place:
        """The page."""
        return self.run_dir / "report" / "index.html"


class PartsFailedError(FailedError):
    """Some studies of a file failed, a line each; `result` has the others."""

    def __init__(self, failed: dict[str, str], result: StudyResult) -> None:
        super().__init__("\n".join(f"{name}: {why}" for name, why in failed.items()))
        self.failed, self.result = failed, result


def tell_failed(log: RunLog, error: BaseException) -> None:
    """Record how a start ended; the traceback goes to the run's log."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        log.event("stopped", by="Ctrl-C" if isinstance(error, KeyboardInterrupt) else "SIGTERM")
        return
    with suppress(OSError):  # a full disk takes neither
        log.event("failed", error=failure_line(error), code=1 if user_message(error) is None else 2)
        if _unexpected(error):
            log.traceback(error)


def failure(error: BaseException, run_dir: Place) -> str:
    """Return what failed, where its traceback is if nobody foresaw it, and what to do, in one line."""
    if not _unexpected(error):
        return failure_line(error)
    refused = refusal(error)
    what, advice = refused or (failure_line(error), "mend that")
    return f"{what}; traceback in {run_dir / RUN_LOG}; {advice}, then {CONTINUES}"


def _unexpected(error: BaseException) -> bool:
    return user_message(error) is None and not isinstance(error, FailedError)
