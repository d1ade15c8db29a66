"""Everything the report draws, as plain JSON: write it once, redraw it any time.

`StudyRecord` holds no arrays, no open files and no settings of the drawing, so a report can be
rebuilt on another machine from `record.json` alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from tis_ray.analysis import Cell, Legend, Method, StageCost, TableRow, summarise
from tis_ray.analysis.recorded import (
    Agreement,
    Lengths,
    Overlaps,
    PoolMap,
    QuarantinedRow,
    RecordedCertificate,
    RepresentationDistances,
    Search,
    SelectedRows,
    Settings,
)
from tis_ray.analysis.study_pairs import MethodPair, method_pairs
from tis_ray.analysis.study_values import POOL, Part
from tis_ray.errors import InputError
from tis_ray.report.record_form import check_form
from tis_ray.report.recorded_texts import GradedAnswers, SelectedTexts
from tis_ray.settings import DrawsConfig
from tis_ray.storage import AnyPlace
from tis_ray.store import read_text, write_bytes

SCHEMA_VERSION = 4


@dataclass
class StudyRecord:
    """A finished or partial study. Every part but the name may be empty."""

    name: str
    created: str = ""
    """When the study ended, ISO 8601."""
    config: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    """Which of a file's tasks this is."""
    setting: Settings = field(default_factory=dict)
    """The study's place in a grid: its values by the dotted name of their field."""
    cells: list[Cell] = field(default_factory=list)
    quantiles: list[Cell] = field(default_factory=list)
    legend: Legend = field(default_factory=Legend)
    """What people read in place of the names of methods and metrics."""
    search: Search | None = None
    overlaps: Overlaps | None = None
    orderings: list[SelectedRows] = field(default_factory=list)
    texts: SelectedTexts | None = None
    """Of all selected rows and their queries, each once."""
    answers: list[GradedAnswers] = field(default_factory=list)
    """What the trained models answered: to the test rows, and to each task."""
    agreement: Agreement | None = None
    map: PoolMap | None = None
    certificates: list[RecordedCertificate] = field(default_factory=list)
    distances: list[RepresentationDistances] = field(default_factory=list)
    composition: dict[Part, dict[str, int]] = field(default_factory=dict)
    """Source → count, of the pool and of each subset."""
    lengths: dict[Part, Lengths] = field(default_factory=dict)
    """Of the pool, the queries and each subset."""
    stages: list[StageCost] = field(default_factory=list)
    quarantined: list[QuarantinedRow] = field(default_factory=list)
    command: str = ""
    """The command that makes this study again."""
    budget_unit: Literal["examples", "tokens"] = "examples"
    environment: dict[str, str] = field(default_factory=dict)
    """Versions and hardware: package → version, device → name."""
    made_from: str = ""
    """Fingerprint of all that the record was gathered from, and of the code that did it."""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return strict JSON (NaN and infinities become null), equal for equal records."""
        content = {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}
        content["cells"] = _plain([cell.with_rows() for cell in self.cells])
        content["quantiles"] = _plain([cell.with_rows() for cell in self.quantiles])
        content["composition"] = [
            {**part.to_json(), "counts": counts} for part, counts in self.composition.items()
        ]
        content["lengths"] = [{**part.to_json(), **found} for part, found in self.lengths.items()]
        if self.map is not None:
            selected = self.map.get("selected", {}).items()
            content["map"]["selected"] = [
                {**method.to_json(), "places": _plain(places)} for method, places in selected
            ]
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, origin: str = "record") -> StudyRecord:
        """Read `to_json`'s text. Raises InputError, naming `origin`, for anything else."""
        try:
            content = json.loads(text)
        except RecursionError:
            raise InputError(f"{origin}: not a study record: nested too deeply") from None
        except json.JSONDecodeError as error:
            raise InputError(
                f"{origin}: line {error.lineno}: not valid JSON: {error.msg}"
            ) from None
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            raise InputError(f"{origin}: not a study record: it has no `name`; run the study again")
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{origin}: schema_version is {version!r}, this version reads {SCHEMA_VERSION};"
                " type the study's `tis-ray run` again (finished work is reused), or use the version"
                " that wrote it"
            )
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(content) - known):
            raise InputError(f"{origin}: unknown field `{unknown[0]}`; it is not a study record")
        check_form(text, origin)
        return cls(**{**content, **_typed(content)})

    def table(self) -> list[TableRow]:
        """Return the study's table: a row for each method and budget."""
        return summarise(
            self.cells, self.legend, budget_unit=self.budget_unit, apart=self.draws_apart
        )

    def pairs(self) -> list[MethodPair]:
        """Return its methods against each other."""
        return method_pairs(self.cells, self.legend, apart=self.draws_apart)

    @property
    def own_cells(self) -> list[Cell]:
        """The cells on the study's own subsets: all but those of its draws."""
        return [cell for cell in self.cells if cell.draw is None]

    @property
    def draws_apart(self) -> bool:
        """Whether no two draws share rows."""
        draws = self.config.get("draws")
        return draws is not None and DrawsConfig.model_validate(draws).apart

    @property
    def pool_rows(self) -> int:
        """How many rows the pool has, 0 where that is not known."""
        return sum(self.composition.get(POOL, {}).values())

    def save(self, path: AnyPlace) -> None:
        """Write the record atomically."""
        write_bytes(path, (self.to_json() + "\n").encode())

    @classmethod
    def load(cls, path: AnyPlace) -> StudyRecord:
        """Read a saved record. Raises InputError when it is missing or not a record."""
        try:
            text = read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot read the study record ({error})") from None
        return cls.from_json(text, origin=str(path))


def _typed(content: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a record that are more than plain values."""
    typed: dict[str, Any] = {
        "cells": [Cell.from_json(cell) for cell in content.get("cells", [])],
        "quantiles": [Cell.from_json(cell) for cell in content.get("quantiles", [])],
        "legend": Legend.from_json(content.get("legend", {})),
        "stages": [StageCost.from_json(stage) for stage in content.get("stages", [])],
        "composition": {
            Part.from_json(entry): entry["counts"] for entry in content.get("composition", [])
        },
        "lengths": {
            Part.from_json(entry): {name: entry[name] for name in Lengths.__annotations__}
            for entry in content.get("lengths", [])
        },
    }
    if agreement := content.get("agreement"):
        names = [Method.from_json(name) for name in agreement["names"]]
        typed["agreement"] = {**agreement, "names": names}
    if plane := content.get("map"):
        selected = {Method.from_json(entry): entry["places"] for entry in plane["selected"]}
        typed["map"] = {**plane, "selected": selected}
    return typed


def _plain(value: Any) -> Any:
    """Return `value` as JSON types; numpy numbers and arrays become Python ones."""
    if hasattr(value, "to_json"):
        value = value.to_json()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
