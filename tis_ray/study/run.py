"""Running the studies of a file: all are checked, then run one after the other, then shown on one page.

Every step finds its artifact by fingerprint and does only what is missing, so running the same
command again continues a run that was stopped. Where nothing has changed since it ended, that is
known from what it left (`tis_ray.study.ended`), and neither PyTorch nor Ray is loaded.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from rich.console import Console

from tis_ray.config import (
    Config,
    config_yaml,
    load_config,
    parse_config,
    parts,
    require_files,
    require_test,
    together,
)
from tis_ray.log import RunLog
from tis_ray.log.json_lines import stderr_console
from tis_ray.stopping import Stop, told_of_stop
from tis_ray.storage import Place
from tis_ray.store import write_bytes
from tis_ray.study.ended import Ended, Inputs
from tis_ray.study.result import (
    MEASURED,
    STEPS,
    PartsFailedError,
    StudyResult,
    Until,
    tell_failed,
)

__all__ = ["PartsFailedError", "StudyResult", "Until", "run"]


def run(
    config: Config | Mapping[str, Any] | str | PurePath,
    until: Until = "report",
    console: Console | None = None,
) -> StudyResult:
    """Run the studies of a config, or their steps up to `until`; finished work is reused.

    config: as `load_config` returns it, a mapping of the same content, or the name of a YAML file.
    Raises InputError for bad input of any study, before the first begins; StudyFailedError when cells
    failed twice; and PartsFailedError when some of several studies failed, after the others have ended.
    """
    config = load_config(config) if isinstance(config, str | PurePath) else parse_config(config)
    if until in MEASURED:
        require_test(config)
    require_files(config)
    page, begun = together(config), []
    for part in parts(config):
        log = RunLog(part.config.run_dir, console or stderr_console())
        keep_config(part.config, replace=False)
        log.event(
            "start", until=until, command=command(), pid=os.getpid(), host=socket.gethostname()
        )
        begun.append((part, log))
    logs = [log for _, log in begun]
    with told_of_stop(partial(_tell_stopped, logs)):
        with failures_told(logs), logs[0].waiting(config.name, "looking at what is done"):
            inputs = [Inputs.of(part) for part, _ in begun]
            ended = _ended(inputs, until, page)
        if ended:
            results = {
                part.config.name: _again(found, log)
                for (part, log), found in zip(begun, ended, strict=True)
            }
            return StudyResult(page, parts=results) if page else next(iter(results.values()))
        with failures_told(logs), logs[0].waiting(config.name, "loading libraries"):
            from tis_ray.study.steps import run_steps
        result = run_steps(begun, page, until)
        for each, study in zip(inputs, result.studies, strict=True):
            Ended.keep(each, until, study, page)
    return result


@contextmanager
def failures_told(logs: Sequence[RunLog]) -> Iterator[None]:
    """Within this context an error is recorded in all these runs."""
    try:
        yield
    except BaseException as error:
        for log in logs:
            tell_failed(log, error)
        raise


def keep_config(config: Config, replace: bool = True) -> None:
    """Write a study's config into its run folder, whose links it explains.

    A start keeps the one that is there: it may fail at once, and what was selected before is read by it.
    """
    path = config.run_dir / "config.yaml"
    if replace or not path.exists():
        write_bytes(path, config_yaml(config).encode())


def _ended(inputs: Sequence[Inputs], until: Until, page: Place | None) -> list[Ended]:
    """Return all studies as a start that went so far, or further, has left them; none if one has changed."""
    for step in STEPS[STEPS.index(until) :]:
        found = [each for one in inputs if (each := Ended.found(one, step, page)) is not None]
        if len(found) == len(inputs):
            return found
    return []


def _again(ended: Ended, log: RunLog) -> StudyResult:
    """Return the result of a study that has ended, and say what the stages would say."""
    start = time.monotonic()
    result = ended.result()
    for stage, said in zip(result.stages, result.said, strict=True):
        log.reused(stage, said)
    log.event("done", seconds=round(time.monotonic() - start, 3), until=ended.until)
    log.say(("done", "bold"), " before; nothing has changed since")
    return result


def _tell_stopped(logs: Sequence[RunLog], stop: Stop) -> None:
    """Record that the program is stopped, in the runs that have begun and not ended."""
    for log in logs:
        if stop.code == 1:
            log.event("failed", error=stop.line.removeprefix("failed: "))
        else:
            log.event("stopped", by=stop.by)
    for log in logs:
        log.ended()


def command() -> str:
    """Return the command line of this process, as a person would write it."""
    name = Path(sys.argv[0]).name
    if name.startswith("ipykernel_launcher"):
        return "a notebook"
    return shlex.join(["tis-ray" if name == "__main__.py" else name, *sys.argv[1:]])
