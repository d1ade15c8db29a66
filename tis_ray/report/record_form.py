"""What verdicts are made of, as it must stand in a record's JSON: anything else is refused by its name.

A value that is no number would drop out of means without a word, and a text in the place of a number
end in a traceback. The types are those of the record's own fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from tis_ray.analysis import Cell, StageCost
from tis_ray.analysis.study_values import FACTS, Method
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription


class _CellForm(BaseModel):
    """One level of values; what is no fact of the run is a metric."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    representation: str
    selector: str | None = None
    budget: Annotated[int, Field(ge=0)] | None = None
    seed: int | None = None
    rows: dict[str, list[float] | Annotated[str, Field(pattern="^[01]*$")]] = {}

    @model_validator(mode="after")
    def _trained_on_something(self) -> Self:
        if not self.budget and not Method(self.representation).is_zero_shot:
            raise ValueError("a trained cell needs a `budget` of 1 or more")
        return self


_HINTS = get_type_hints(Cell)
_FACTS: dict[str, Any] = {name: (_HINTS[name] | None, None) for name in FACTS}
_Cells: Any = list[create_model("_Cell", __base__=_CellForm, **_FACTS)]  # type: ignore[misc]


class _LegendForm(BaseModel):
    representations: dict[str, str] = {}
    selectors: dict[str, str] = {}
    metrics: dict[str, MetricDescription] = {}
    margins: dict[str, Annotated[float, Field(gt=0)]] = {}


class _RecordForm(BaseModel):
    cells: _Cells = []  # type: ignore[valid-type]
    quantiles: _Cells = []  # type: ignore[valid-type]
    legend: _LegendForm = _LegendForm()
    stages: list[StageCost] = []
    config: dict[str, Any] = {}
    setting: dict[str, Any] = {}
    task: str | None = None
    created: str = ""
    command: str = ""
    budget_unit: Literal["examples", "tokens"] = "examples"


def check_form(text: str, origin: str) -> None:
    """Raise InputError, naming the field, where a record's JSON has other types than a study leaves."""
    try:
        _RecordForm.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise InputError(
            f"{origin}: `{where}`: {what}; found {str(first['input'])[:100]!r}; the study's `tis-ray run`"
            " writes it anew"
        ) from None
