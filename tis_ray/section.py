"""What every section of a config has in common: of `tis_ray.settings`, and of a method's own settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Stop = Annotated[str, Field(min_length=1)]


Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def as_list(value: Any) -> Any:
    """Return a value where a list is meant as a list of one."""
    return value if isinstance(value, list | tuple) else [value]
