"""A study that has ended: what it was made from and what it left, to see in a second that nothing has changed.

The fingerprints of artifacts are hashes of contents, and to take them all reads every file and loads what
reads models. Here a file is known by its size and its times: what was not touched has not changed. Whatever
differs (a file, a package, a version, the environment, something the run has left), or cannot be told,
means no more than that the studies' own steps look again.
"""

from __future__ import annotations

import glob
import importlib.metadata
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import tis_ray
from tis_ray.analysis import Cell
from tis_ray.analysis.study_values import StageCost
from tis_ray.config import Config, Part
from tis_ray.errors import InputError
from tis_ray.log import Said
from tis_ray.stages.ordering_artifact import StudyOrdering
from tis_ray.storage import Place, is_remote, place
from tis_ray.store import Artifact, find_json, fingerprint, read_manifest, write_json
from tis_ray.study.mlflow_limits import default_uri, store_uri
from tis_ray.study.result import StudyResult, Until
from tis_ray.version import __version__

FOLDER = "ended"
"""In the run's folder; one file for each step that a start may end with."""
OURS = {
    FOLDER,
    "events.jsonl",
    "live.json",
    "run.log",
    "config.yaml",
    "rows-seen",
    "logs",
    "explain",
}
"""Of the run's folder, what every start writes, and what is made on demand."""
PACKAGE = Path(tis_ray.__file__).parent
MOST_FILES = 200_000
LONGEST_PATH = 1024

State = list[Any]
"""A file as JSON: its path, and what changes when it is changed."""


class TooManyError(Exception):
    """There are more files than can be looked at in a second or two."""


@dataclass(frozen=True)
class Inputs:
    """What a study is made from, as it was when the start began.

    key: of the config and the environment. files: what the config names, and the package. modules: the files
    of what is imported from outside the installed packages, by name. state: of all these files.
    """

    config: Config
    key: str
    files: list[str]
    modules: dict[str, str]
    state: str | None

    @classmethod
    def of(cls, part: Part) -> Self:
        """Look at everything a study may read."""
        config = part.config.model_dump(mode="json", exclude={"compute"})
        named = {name: value for name, value in config.items() if name not in _NO_INPUT}
        files = sorted({*_named_files(named), str(PACKAGE)})
        modules = _modules()
        key = {
            "config": config,
            "place": [part.task, part.setting],
            "version": __version__,
            "python": sys.version,
            "installed": _installed(),
            "folder": str(Path.cwd()),
            "path": os.environ.get("PYTHONPATH"),
            "tracked": _tracked(part.config),
        }
        state = _state([*files, *modules.values()])
        return cls(part.config, fingerprint(key), files, modules, state)

    def record(self, until: Until) -> Place:
        """Where it is kept that a study made from these has ended, up to a step."""
        return self.config.run_dir / FOLDER / f"{until}.json"


@dataclass(frozen=True)
class Ended:
    """A study that has ended, and of which nothing has changed."""

    inputs: Inputs
    until: Until
    stages: list[StageCost]
    said: list[Said]
    orderings: list[StudyOrdering]
    cells: list[Cell]
    quantiles: list[Cell]
    rests_on: list[Place]

    @classmethod
    def keep(cls, inputs: Inputs, until: Until, result: StudyResult, page: Place | None) -> None:
        """Keep that a study has ended, up to a step, unless its inputs changed meanwhile."""
        made = _made(inputs.config, result.made, page)
        same = _state([*inputs.files, *inputs.modules.values()]) == inputs.state
        if inputs.state is None or not same or (left := _left(made)) is None:
            inputs.record(until).unlink(missing_ok=True)
            return
        modules = _modules()  # more, perhaps, than when it began
        write_json(
            inputs.record(until),
            {
                "key": inputs.key,
                "inputs": _state([*inputs.files, *modules.values()]),
                "modules": modules,
                "made": [str(path) for path in made],
                "left": left,
                "rests_on": [str(path) for path in result.made],
                "stages": [stage.to_json() for stage in result.stages],
                "said": [asdict(said) for said in result.said],
                "orderings": [
                    [each.representation, each.selector, each.seed, str(each.artifact.path)]
                    for each in result.orderings
                ],
                "cells": [cell.with_rows() for cell in result.cells],
                "quantiles": [cell.with_rows() for cell in result.quantiles],
            },
        )

    @classmethod
    def found(cls, inputs: Inputs, until: Until, page: Place | None) -> Self | None:
        """Return the study if it has ended at this step, was made from these inputs, and all that it left is there."""
        try:
            held = find_json(inputs.record(until))
            if held is None or inputs.state is None or held["key"] != inputs.key:
                return None
            modules = held["modules"]
            if any(modules.get(name, file) != file for name, file in inputs.modules.items()):
                return None
            if held["inputs"] != _state([*inputs.files, *modules.values()]):
                return None
            if held["left"] != _left([place(path) for path in held["made"]]):
                return None
            return cls(
                inputs,
                until,
                [StageCost.from_json(stage) for stage in held["stages"]],
                [Said(**said) for said in held["said"]],
                [_ordering(*each) for each in held["orderings"]],
                [Cell.from_json(cell) for cell in held["cells"]],
                [Cell.from_json(cell) for cell in held["quantiles"]],
                [place(path) for path in held["rests_on"]],
            )
        except (InputError, KeyError, TypeError, ValueError):  # of another version, or damaged
            return None

    def result(self) -> StudyResult:
        """Return what the start that made it has returned."""
        result = StudyResult(self.inputs.config.run_dir, self.orderings, self.cells, self.quantiles)
        result.stages, result.said, result.made = self.stages, self.said, self.rests_on
        if self.until == "report":
            from tis_ray.report import StudyRecord
            from tis_ray.report.study_results import RECORD

            result.record = StudyRecord.load(result.run_dir / RECORD)
        return result


_NO_INPUT = ("name", "runs", "artifacts", "tracking")
"""Fields of a config whose texts name no file that is read."""


def _ordering(representation: str, selector: str, seed: int | None, path: str) -> StudyOrdering:
    manifest, folder = read_manifest(place(path)), place(path)
    artifact = Artifact(folder.parent, manifest.stage, manifest.inputs, manifest.version)
    if artifact.path != folder:
        raise ValueError(f"{path} is not the artifact that its manifest describes")
    return StudyOrdering(representation, selector, artifact, seed)


def _tracked(config: Config) -> str | None:
    """Return where a study is tracked, if it is."""
    settings = config.tracking
    return store_uri(settings.uri, config.runs) if settings.enabled else None


def _made(config: Config, folders: list[Place], page: Place | None) -> list[Place]:
    """Return what has to be there still: artifacts, the run's folder, the page of all, the tracking's file."""
    made = [*folders, config.run_dir, *([page / "report"] if page else [])]
    if not is_remote(config.runs) and _tracked(config) == default_uri(config.runs):
        made.append(place(config.runs).absolute() / "mlflow.db")
    return made


def _named_files(value: object) -> Iterator[str]:
    """Yield the paths that texts of a config may mean, whether or not there is something."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _named_files(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named_files(inner)
    elif isinstance(value, str) and value and len(value) < LONGEST_PATH and "\n" not in value:
        if is_remote(value):
            if not glob.has_magic(value):
                yield value
            return
        path = os.path.abspath(os.path.expanduser(value))  # noqa: PTH100, PTH111
        yield path
        if glob.has_magic(value):
            yield from glob.glob(path, recursive=True)  # noqa: PTH207


def _modules() -> dict[str, str]:
    """Return the files of what is imported from outside the installed packages, by name, such as methods."""
    known = tuple({str(Path(prefix)) + os.sep for prefix in (sys.prefix, sys.base_prefix, PACKAGE)})
    found = {}
    for name, module in sorted([*sys.modules.items()]):
        file = getattr(module, "__file__", None)
        ours = isinstance(file, str) and os.path.isabs(file) and not file.startswith(known)  # noqa: PTH117
        if ours and name != "__main__":
            found[name] = str(file)
    return found


def _installed() -> list[str]:
    """Return the packages with their versions. Ray adds folders of its own to `sys.path`; they do not count."""
    folders = {*(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))}
    if site.ENABLE_USER_SITE:
        folders.add(site.getusersitepackages())
    found = importlib.metadata.distributions(path=sorted(folders))
    return sorted(f"{each.name} {each.version}" for each in found if each.name)


def _state(paths: Iterable[str]) -> str | None:
    """Return the state of files and of all that is in folders; None where there are too many."""
    try:
        return fingerprint(
            list(_states(paths, ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")))
        )
    except TooManyError:
        return None


def _left(made: Iterable[Place]) -> str | None:
    """Return the state of what a run has left. Links count by where they point."""
    try:
        return fingerprint(list(_states(map(str, made), ("st_size", "st_mtime_ns"), follow=False)))
    except TooManyError:
        return None


def _states(paths: Iterable[str], facts: tuple[str, ...], follow: bool = True) -> Iterator[State]:
    count = 0
    for path in paths:
        if is_remote(path):
            for state in _remote_states(path):
                count += 1
                if count > MOST_FILES:
                    raise TooManyError
                yield state
            continue
        for file in _files(path, follow):
            count += 1
            if count > MOST_FILES:
                raise TooManyError
            yield _file_state(file, facts, follow)


def _remote_states(path: str) -> Iterator[State]:
    """Yield the states of a file, or of all in a folder, in a bucket: size and tag, or time."""
    at = place(path)
    if isinstance(at, Path) or not at.exists():
        yield [path, None]
        return
    begin = at.path.rstrip("/")
    for name, found in sorted(at.fs.find(begin, detail=True).items()):
        if name.removeprefix(f"{begin}/").partition("/")[0] not in OURS:
            yield [name, found.get("size"), str(found.get("ETag") or found.get("LastModified"))]


def _files(path: str, follow: bool) -> Iterator[str]:
    """Yield a file, or the files of a folder and the folders below it, in order."""
    if not os.path.isdir(path) or (not follow and os.path.islink(path)):  # noqa: PTH112, PTH114
        yield path
        return
    for folder, folders, names in os.walk(path, followlinks=follow):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118
        top = folder == path
        for name in sorted([*names, *([] if follow else links)]):
            if not (top and name in OURS):
                yield os.path.join(folder, name)  # noqa: PTH118
        if top:
            folders[:] = [name for name in folders if name not in OURS]


def _file_state(file: str, facts: tuple[str, ...], follow: bool) -> State:
    try:
        if not follow and os.path.islink(file):  # noqa: PTH114
            return [file, os.readlink(file)]  # noqa: PTH115
        found = os.stat(file)  # noqa: PTH116
    except OSError:
        return [file, None]
    return [file, *([0] if file.endswith("mlflow.db") else (getattr(found, f) for f in facts))]
