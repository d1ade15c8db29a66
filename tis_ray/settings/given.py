"""Methods that are files: scores, features or an ordering that somebody else has made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import model_validator

from tis_ray.section import Section


class GivenConfig(Section):
    """One method from files; paths of .npy matrices, or of .parquet tables with an `id` column."""

    scores: str | None = None
    """Scores of every query (row) with every pool row (column); in a table, a list `scores` a pool row."""
    features: str | None = None
    """A vector for each pool row, (N, D); in a table, a list `features`. `queries` goes with it."""
    queries: str | None = None
    """The same for each query, (M, D)."""
    ordering: str | None = None
    """A table with the pool rows to train on, best first: their `id`, and their `score` if there is one."""
    label: str = ""
    """Its name on pages; by default the name it has here."""
    cosines: bool = False
    """Whether `scores` are cosines, so that distances can be told from them. Features' always are."""

    @model_validator(mode="after")
    def _one_kind(self) -> GivenConfig:
        kinds = [self.scores, self.features, self.ordering]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give one of `scores`, `features` (with `queries`) and `ordering`")
        if (self.features is None) != (self.queries is None):
            raise ValueError("`features` (of the pool) and `queries` go together; give both")
        return self


def take_given(values: dict[str, Any]) -> dict[str, Any]:
    """Return a raw config whose representations are names, and the files among them under `given`."""
    listed = values.get("representation")
    items = listed if isinstance(listed, list | tuple) else [listed]
    if not any(isinstance(item, dict) for item in items):
        return values
    given = dict(values.get("given") or {})
    names = []
    for item in items:
        if isinstance(item, dict):
            files = dict(item)
            name = files.pop("name", None) or _name(files)
            if name in given:
                raise ValueError(
                    f"representation: two methods from files are called {name!r}; tell them apart "
                    "with `name`"
                )
            given[name] = files
            item = name
        names.append(item)
    return {**values, "representation": names, "given": given}


def _name(files: dict[str, Any]) -> str:
    """Return a method's name made of its file's."""
    path = next((files[key] for key in ("scores", "features", "ordering") if files.get(key)), "")
    word = re.sub(r"\W+", "_", Path(str(path)).stem).strip("_")
    return word if word[:1].isalpha() else f"given_{word}"
