"""Reading a config: YAML, overrides, and one line for what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import yaml
from pydantic import ValidationError

from tis_ray.config.first_study import written_at
from tis_ray.config.plan import parts
from tis_ray.config.problems import problem_line
from tis_ray.config.schema import Config
from tis_ray.errors import InputError
from tis_ray.storage import AnyPlace, Place, location, place
from tis_ray.store import read_text
from tis_ray.store.document import read_document


def load_config(
    path: AnyPlace,
    overrides: list[str] | None = None,
    changes: Mapping[str, object] | None = None,
) -> Config:
    """Read a YAML config and apply `a.b=c` overrides (values are read as YAML).

    changes: the same as values, by dotted names.

    Raises InputError with one line that names the file, the field, what was found and what to do.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a text file ({error})") from None
    try:
        raw = read_document(text)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise InputError(f"{path}: expected `key: value` lines, found {found}")
    given: set[str] = set()
    for override in overrides or []:
        key = override.partition("=")[0]
        if key in given:
            raise InputError(f"--set {override}: `{key}` is given twice; keep one")
        given.add(key)
        _apply(raw, override)
    return parse_config(raw, origin=str(path), changes=changes)


def run_config(run: Place) -> Place:
    """Return the config that a run has left in its folder. Raises InputError if it is no study's folder."""
    if not (run / "config.yaml").exists():
        raise InputError(
            f"{run}: is not the folder of a study (it has no config.yaml); give runs/<name>, of a file with "
            "several studies that of one of them"
        )
    return run / "config.yaml"


def load_run(run: Place, overrides: list[str] | None = None) -> tuple[Config, Path]:
    """Read the config that a run has left in its folder; return it, and the folder that its relative paths start from.

    The run is the folder that is given, wherever the config says it was: it may have been moved or renamed.
    """
    left = load_config(run_config(run))
    config = load_config(run_config(run), overrides) if overrides else left
    home = home_of(run, left)
    was = place(left.runs)
    there = was if not isinstance(was, Path) else home / was
    if there / left.name == run.absolute():
        return config, home
    moved = {"name": run.absolute().name, "runs": location(run.absolute().parent)}
    as_left = {
        key: value for key, value in moved.items() if getattr(config, key) == getattr(left, key)
    }
    return config.model_copy(update=as_left), home


def home_of(run: Place, config: Config) -> Path:
    """Return the folder that the relative paths of a run's config start from: where it was run.

    It follows from where the run's folder is; if its config says so from the root, this folder is meant.
    """
    own = place(config.runs)
    if not (isinstance(run, Path) and isinstance(own, Path)):
        return Path.cwd()  # a URI starts from nowhere
    said, there = own.parts, run.absolute().parent.parts
    above = len(there) - len(said)
    if own.is_absolute() or there[above:] != said:
        return Path.cwd()
    return Path(*there[:above])


def parse_config(
    raw: Mapping[str, object] | Config,
    origin: str = "config",
    changes: Mapping[str, object] | None = None,
) -> Config:
    """Validate a mapping and every study it plans; an InputError reports the first problem in one line.

    changes: fields to set before, by dotted names.
    """
    if isinstance(raw, Config) and not changes:
        return raw
    if changes:
        raw = _changed(raw, changes)
    try:
        config = Config.model_validate(raw)
        parts(config)
    except ValidationError as error:
        raise InputError(f"{origin}: {problem_line(error, Config, written_at(raw))}") from None
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    except RecursionError:
        raise InputError(f"{origin}: sections or lists are nested too deeply") from None
    return config


def config_yaml(config: Config) -> str:
    """Return the resolved config as YAML; reading it back gives an equal config."""
    raw = config.model_dump(mode="json")
    if config.tasks:  # `query` and `test` are the first task's
        raw["data"] = {k: v for k, v in raw["data"].items() if k not in ("query", "test")}
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def _changed(
    raw: Mapping[str, object] | Config, changes: Mapping[str, object]
) -> Mapping[str, object]:
    """Return a config's content with some fields set, by their dotted names."""
    content = read_document(config_yaml(raw)) if isinstance(raw, Config) else raw
    assert isinstance(content, Mapping)
    changed = deepcopy(dict(content))
    for key, value in changes.items():
        _place(changed, key, value, f"{key}={value!r}")
    return changed


def _apply(raw: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    override = " ".join(override.split())
    override = override if len(override) <= 80 else f"{override[:77]}..."
    if not equals or not key:
        raise InputError(f"--set {override}: expected `key.sub=value`")
    try:
        value = read_document(text)
    except ValueError:
        raise InputError(f"--set {override}: the value is not valid YAML") from None
    _place(raw, key, value, f"--set {override}")


_SHORT = {"pool": "path", "query": "path", "test": "path", "template": "name"}
"""Sections for which one of their fields may stand alone."""


def _place(raw: dict[str, object], key: str, value: object, asked: str) -> None:
    """Set a field by its dotted name."""
    # The keys of `grid` are dotted themselves.
    *parents, last = key.split(".", 1) if key.startswith("grid.") else key.split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if isinstance(child, str) and parent in _SHORT and not child.startswith("hub:"):
            child = node[parent] = {_SHORT[parent]: child}
        if not isinstance(child, dict):
            raise InputError(f"{asked}: `{parent}` holds a value, not a section")
        node = child
    node[last] = value
