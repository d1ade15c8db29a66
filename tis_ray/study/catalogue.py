"""The text of `tis-ray methods`: every known method with its settings and their defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from tis_ray.errors import InputError
from tis_ray.methods import Method, Methods
from tis_ray.metrics import METRICS
from tis_ray.representations import REPRESENTATIONS
from tis_ray.selectors import SELECTORS

KINDS: tuple[tuple[str, str, Methods[Any]], ...] = (
    ("representations", "`representation`: how an example becomes a feature", REPRESENTATIONS),
    ("selectors", "`selector`: how scores become an ordering", SELECTORS),
    ("metrics", "`evaluation.metrics`: how answers are graded", METRICS),
)


def catalogue() -> Iterator[str]:
    """Yield every method, one or more lines each: name, label, version, settings with defaults.

    A method of an installed package that cannot be loaded is listed with the reason.
    """
    for title, use, methods in KINDS:
        yield f"{title} ({use})"
        for name in methods.names:
            try:
                yield from _lines(methods.find(name))
            except InputError as error:
                yield f"  {name:<16} cannot be used: {error}"
        yield ""
    yield "your own: `module:attribute` in place of a name; see docs/extend.md"


def _lines(method: Method) -> Iterator[str]:
    origin = "" if method.code is None else f"  [{method.code.module}:{method.code.attribute}]"
    yield f"  {method.name:<16} {method.label}, version {method.version}: {method.summary}{origin}"
    where = method.section if method.code is None else f"settings.{method.name}"
    for name, field in method.Settings.model_fields.items():
        yield f"      {where}.{name} = {_default(field)}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(must be given)"
    value = field.get_default(call_default_factory=True)
    return repr(value.model_dump(mode="json")) if hasattr(value, "model_dump") else repr(value)
