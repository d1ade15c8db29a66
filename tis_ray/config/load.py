"""Reading a config: YAML, overrides, and one line for what is wrong with it."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from tis_ray.config.schema import Config
from tis_ray.errors import InputError
from tis_ray.settings.data import _KINDS
from tis_ray.settings.grid import placed, points, take_axes


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping, or raise at the second of two equal keys."""
        first: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                mark = first.setdefault(key.value, key.start_mark)
                if mark is not key.start_mark:
                    told = f"`{key.value}` is there already, in line {mark.line + 1}; keep one"
                    raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML config and apply `a.b=c` overrides (values are read as YAML).

    Raises InputError with one line that names the file, the field, what was found and what to do.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file; check --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a text file ({error})") from None
    try:
        raw = yaml.load(text, _UniqueKeys)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "somewhere"
        problem = getattr(error, "problem", None) or "syntax error"
        raise InputError(f"{path}: {where}: not valid YAML: {problem}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected `key: value` lines, found {type(raw).__name__}")
    for override in overrides or []:
        _apply(raw, override)
    return parse_config(raw, origin=str(path))


def parse_config(raw: dict[str, Any] | Config, origin: str = "config") -> Config:
    """Validate a mapping; an InputError reports the first problem in one line."""
    if isinstance(raw, Config):
        return raw
    try:
        return Config.model_validate(_with_grid(raw, origin) if isinstance(raw, dict) else raw)
    except ValidationError as error:
        problems = error.errors()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{origin}: {_problem_line(problems[0])}{more}") from None


def _with_grid(raw: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return `raw` with its lists moved to `grid`; raise for a combination that is not valid."""
    plain, axes = take_axes(Config, raw)
    given = plain.get("grid", {})
    if not isinstance(given, dict) or not all(isinstance(v, list) and v for v in given.values()):
        return plain  # the schema's own error is better
    axes |= given
    for key, values in axes.items():
        if any(value in values[:place] for place, value in enumerate(values)):
            raise InputError(f"{origin}: `{key}`: a value is there twice; give each once")
        if "." not in key:
            raise InputError(
                f"{origin}: `grid.{key}`: give a setting of a section, `section.{key}`"
            )
    for point in points(axes):
        Config.model_validate(placed(plain, point))
    return {**placed(plain, points(axes)[0]), "grid": axes}


def config_yaml(config: Config) -> str:
    """Return the resolved config as YAML; reading it back gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {override}: expected `key.sub=value`")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set {override}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise InputError(f"--set {override}: `{parent}` holds a value, not a section")
        node = child
    node[last] = value


def _problem_line(problem: Any) -> str:
    location = list(problem["loc"])
    kind = None
    if location[:1] == ["data"] and len(location) > 2:
        kind = location.pop(2)  # pydantic's tag for the kind of source, not a key of the file
    keys = [part for part in location if isinstance(part, str)]  # numbers are places in lists
    where = f"`{'.'.join(keys)}`"
    found = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            known = _known_keys(keys[:-1], kind)
            advice = _nearest(keys[-1], known) or f"known keys: {', '.join(known)}"
            return f"{where} is not a known key; {advice}"
        case "missing":
            return f"{where} is missing; add it"
        case "union_tag_not_found":
            return f"{where}: `kind` is missing; add one of {', '.join(_KINDS)}"
        case "union_tag_invalid":
            return _not_among(where, found.get("kind"), list(_KINDS))
        case "literal_error":
            expected = problem["ctx"]["expected"]
            return _not_among(where, found, re.findall(r"'([^']*)'", expected))
        case "unknown_method":
            return _not_among(where, problem["ctx"]["found"], problem["ctx"]["known"])
        case "model_type":
            among = ", ".join(_known_keys(keys, kind))
            return f"{where}: found {found!r}, expected a section with keys among {among}"
        case "invalid_key":
            return f"`{location[-1]}` is not a known key; keys are words"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not keys:
        return message
    # A message about a whole section says itself what was found.
    return f"{where}: {message}" + ("" if isinstance(found, dict) else f"; found {found!r}")


def _not_among(where: str, found: Any, known: list[str]) -> str:
    advice = _nearest(str(found), known)
    tail = f"; {advice}" if advice else ""
    return f"{where}: found {found!r}, expected one of {', '.join(known)}{tail}"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else ""


def _known_keys(keys: list[str], kind: str | None) -> list[str]:
    """Return the keys of a section; `kind` is the kind of source where the section is one."""
    section: Any = Config
    for key in keys:
        annotation = section.model_fields[key].annotation
        section = _KINDS.get(kind or "") if get_args(annotation) else annotation
        if not hasattr(section, "model_fields"):
            return []
    return list(section.model_fields)
