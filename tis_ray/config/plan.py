"""From a file to its studies, and the names of their run folders: one for each task and grid point.

Every verb asks here which studies a file means, so `run`, `status`, `report`, the price and the rest
never disagree. A study's config is a file of its own: it plans to itself, under the same name.
"""

from __future__ import annotations

import glob
import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from tis_ray.config.problems import problem_line
from tis_ray.config.schema import NAME_LENGTH, Config
from tis_ray.errors import InputError
from tis_ray.settings.data import FileSource, ListSource
from tis_ray.settings.grid import Point, label, placed, points
from tis_ray.storage import Place, place

MOST_STUDIES = 1000
"""More than that in one file is taken for a mistake."""


@dataclass(frozen=True)
class Part:
    """One study of a file, and what sets it apart from the others: its task, its values of the grid."""

    config: Config
    task: str | None = None
    setting: Point = field(default_factory=dict)


def plan(config: Config) -> dict[str, Config]:
    """Return the config of each study by its name, which is its run folder's.

    Raises InputError with one line for a grid that makes no valid studies.
    """
    return {part.config.name: part.config for part in parts(config)}


def parts(config: Config) -> list[Part]:
    """Return the studies of a file in the order they run: task by task, the grid's last axis fastest."""
    if not config.tasks and not config.grid:
        return [Part(config)]
    tasks: list[str | None] = [config.task] if config.task else [*config.tasks] or [None]
    count = len(tasks) * math.prod(map(len, config.grid.values()))
    if count > MOST_STUDIES:
        raise InputError(
            f"grid: makes {count} studies, more than {MOST_STUDIES}; vary less at once"
        )
    studies = [_part(config, *of) for of in itertools.product(tasks, points(config.grid))]
    _require_different(studies)
    return studies


def require_test(config: Config) -> None:
    """Raise InputError, which says what to do, if a study of a file has no test rows to measure on."""
    for part in parts(config):
        if part.config.data.source("test") is None:
            key = f"tasks.{part.task}" if part.task and config.tasks else "data"
            raise InputError(
                f"{key}.test is missing: models are measured on rows that did not steer the selection; "
                f"give some, or hold out some of the queries (`{key}.query: {{path: ..., holdout: 0.3}}`); "
                "`tis-ray select` needs none"
            )


def require_files(config: Config) -> None:
    """Raise InputError, which names the key, for a file of rows or a model's folder on a disk that is not there."""
    for key, source in config.sources():
        for one in source.sources if isinstance(source, ListSource) else [source]:
            if isinstance(one, FileSource) and _is_missing(one.path):
                raise InputError(f"{key}: {one.path}: no such file or folder; check the path")
    for key, model in config.trained_models():
        if model.is_path and _is_missing(model.name):
            raise InputError(f"{key}.name: {model.name}: no such folder; check the path")


def _is_missing(path: str) -> bool:
    found = place(path)
    return isinstance(found, Path) and not (glob.has_magic(str(found)) or found.exists())


def together(config: Config) -> Place | None:
    """Return the folder of the page over all studies of a file; None where it is one study."""
    name = f"{config.name}-{config.task}" if config.task else config.name
    return None if [*plan(config)] == [name] else place(config.runs).absolute() / name


def _part(config: Config, task: str | None, point: Point) -> Part:
    name = "-".join(word for word in (config.name, task, label(point)) if word)
    if len(name) > NAME_LENGTH:
        raise InputError(
            f"name: `{name[:60]}...` would name a run folder with {len(name)} characters; "
            f"{NAME_LENGTH} are possible"
        )
    raw = config.model_dump(mode="json")
    if task is not None:
        others = [sides for other, sides in raw["tasks"].items() if other != task]
        raw["data"] |= raw["tasks"][task]
        raw["overlap"]["also"] += others
    raw |= {"name": name, "tasks": {}, "task": None, "grid": {}}
    try:
        return Part(Config.model_validate(placed(raw, point)), task, point)
    except ValidationError as error:
        raise InputError(
            problem_line(error, Config, {key: f"grid.{key}" for key in point})
        ) from None


def _require_different(studies: list[Part]) -> None:
    """Raise InputError where two values of an axis mean the same, as `1` and `"1"` may."""
    names: dict[tuple[str | None, str], str] = {}
    for part in studies:
        meant = part.config.model_copy(update={"name": ""}).model_dump_json()
        other = names.setdefault((part.task, meant), part.config.name)
        if other != part.config.name:
            raise InputError(f"grid: `{other}` and `{part.config.name}` are the same; keep one")
