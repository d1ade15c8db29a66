"""The reference of methods: representations, selectors and metrics, from their specs."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from tis_ray.config import Config
from tis_ray.methods import Method, NoSettings
from tis_ray.study.catalogue import KINDS
from website.settings import anchor

INTRODUCTION = """# Methods

This page is made from the specs of the methods when the site is built; `tis-ray methods` lists the same, and those of installed packages.
What each computes: [Mathematics](../mathematics.md); how to choose: [Choose a method](../method.md).

"""


def methods_page() -> str:
    """Return the page of all methods that the package has itself."""
    return INTRODUCTION + "\n".join(_lines())


def _lines() -> Iterator[str]:
    for title, use, methods in KINDS:
        yield f"## {title.capitalize()}\n"
        yield f"{use[0].upper()}{use[1:]}.\n"
        yield "| name | shown as | version | | settings |\n|---|---|---|---|---|"
        for method in methods.own.values():
            yield (
                f"| `{method.name}` | {method.label} | {method.version} | {method.summary} | {_settings(method)} |"
            )
        yield ""


def _section(method: Method) -> type[BaseModel]:
    """Return the section of the config that holds a method's settings, perhaps those of another one too."""
    found: type[BaseModel] = Config.model_fields[method.section].annotation  # type: ignore[assignment]
    return found


def _settings(method: Method) -> str:
    if method.Settings is NoSettings:
        return "none"
    names = ", ".join(f"`{method.section}.{name}`" for name in method.Settings.model_fields)
    linked = f"[all](settings.md#{anchor(_section(method))})"
    return f"{names} ({linked})" if len(method.Settings.model_fields) < 8 else linked
