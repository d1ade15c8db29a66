"""One line for what is wrong with a config: the field, what was found, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tis_ray.config.places import Place, place_of
from tis_ray.settings.data import SOURCE_KINDS

_ONE_VALUE = {"bool_type", "float_type", "int_type", "literal_error", "string_type"}
"""Types of pydantic's errors where a plain value is expected."""
_RETIRED = {
    "setting": "is no longer a key of a config; leave it out (an earlier version wrote it into the "
    "config of a grid's study: run the file with `grid:` instead)"
}
LONGEST_FOUND = 200


def problem_line(
    error: ValidationError, schema: type[BaseModel], written: Mapping[str, str] | None = None
) -> str:
    """Return the first problem in one line, and how many more there are.

    written: where the file has a value (`grid.finetune.epochs`), by where it takes effect
        (`finetune.epochs`).
    """
    lines: dict[str, str] = {}
    for problem in error.errors():
        place = place_of(schema, problem["loc"])
        where = _as_written(place.dotted, written or {})
        line = " ".join(_line(problem, place, where).split())
        lines.setdefault(where, line)  # a union has a problem for each of its types
    first = next(iter(lines.values()))
    return first + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")


def _as_written(dotted: str, written: Mapping[str, str]) -> str:
    for key, own in written.items():
        if dotted == key or dotted.startswith(f"{key}."):
            return own + dotted.removeprefix(key)
    return dotted


def _line(problem: ErrorDetails, place: Place, dotted: str) -> str:
    where, found, kind = f"`{dotted}`", problem["input"], problem["type"]
    if problem["loc"][-1:] == ("[key]",):
        return f"{where}: a name must be text of letters, digits, `.`, `_` and `-`; rename it"
    match kind:
        case "extra_forbidden":
            if dotted in _RETIRED:
                return f"{where} {_RETIRED[dotted]}"
            advice = _nearest(place.keys[-1], place.around)
            return f"{where} is not a known key; " + (
                advice or f"known keys: {', '.join(place.around)}"
            )
        case "missing":
            return f"{where} is missing; add it"
        case "union_tag_not_found":
            return f"{where}: `kind` is missing; add one of {', '.join(SOURCE_KINDS)}"
        case "union_tag_invalid":
            return not_among(where, found.get("kind"), list(SOURCE_KINDS))
        case "unknown_method":
            known = [*problem["ctx"]["known"], "`module:attribute`"]
            return not_among(where, problem["ctx"]["found"], known)
        case "secret":  # what was found is not shown
            return f"{where} {problem['msg']}"
        case "model_type":
            among = ", ".join(place.inside)
            return f"{where}: found {shown(found)}, expected a section with keys among {among}"
        case "invalid_key":
            return f"{where} is not a known key; keys are words"
        case _ if isinstance(found, list) and kind in _ONE_VALUE:
            return _list_line(where, place, found)
        case "literal_error":
            expected = problem["ctx"]["expected"]
            return not_among(where, found, re.findall(r"'([^']*)'", expected))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not place.keys:
        return message
    # A message about a whole section says itself what was found.
    return f"{where}: {message}" + ("" if isinstance(found, dict) else f"; found {shown(found)}")


def _list_line(where: str, place: Place, found: list[object]) -> str:
    """Return what to do about a list where one value belongs."""
    line = f"{where}: found a list, {shown(found)}, where one value belongs"
    if len(place.keys) > 1 and not place.in_list and where == f"`{place.dotted}`":
        line += f"; for a study of each value write `grid: {{{place.dotted}: {shown(found)}}}`"
    return line


def shown(value: object) -> str:
    """Return a value as it was found, cut where it is too long for a line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number with too many digits"
    except RecursionError:
        return "something nested too deeply"
    return text if len(text) <= LONGEST_FOUND else f"{text[: LONGEST_FOUND - 3]}..."


def not_among(where: str, found: object, known: Sequence[str]) -> str:
    """Return what to say of a value that is not one of the known ones."""
    advice = _nearest(found, known) if isinstance(found, str) else ""
    tail = f"; {advice}" if advice else ""
    return f"{where}: found {shown(found)}, expected one of {', '.join(known)}{tail}"


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else ""
