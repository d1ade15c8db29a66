"""Methods from files that stand in the list of `representation`: they get a name, and move to `given`."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from tis_ray.config.problems import problem_line, shown
from tis_ray.settings.given import GivenConfig


def with_named_files(values: dict[str, object]) -> dict[str, object]:
    """Return a raw config whose representations are names, and the files among them under `given`.

    Raises ValueError for files that are not a method, and for two of one name.
    """
    listed = values.get("representation")
    items = listed if isinstance(listed, list | tuple) else [listed]
    given = values.get("given") or {}
    if not any(isinstance(item, dict) for item in items) or not isinstance(given, dict):
        return values
    given, names = dict(given), []
    for item in items:
        if isinstance(item, dict):
            files = dict(item)
            name = files.pop("name", None)
            try:
                GivenConfig.model_validate(files)
            except ValidationError as error:
                raise ValueError(f"representation: {problem_line(error, GivenConfig)}") from None
            name = _file_name(files) if name is None else name
            if not isinstance(name, str):
                raise ValueError(f"representation: `name`: found {shown(name)}; give text")
            if name in given:
                raise ValueError(
                    f"representation: two methods from files are called {name!r}; tell them apart "
                    "with `name`"
                )
            given[name] = files
            item = name
        names.append(item)
    return {**values, "representation": names, "given": given}


def _file_name(files: dict[str, object]) -> str:
    """Return a method's name made of its file's."""
    path = next(files[key] for key in ("scores", "features", "ordering") if files.get(key))
    word = re.sub(r"\W+", "_", Path(str(path)).stem).strip("_")
    return word if word[:1].isalpha() else f"given_{word}"
