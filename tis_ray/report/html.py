"""Writes a page from its templates: one HTML file that needs no network, no fonts, no other file.

Texts of pool and queries, and names of models, tasks and methods, come from files. They reach the page
only through the templates' auto-escaping, and a content security policy allows no script but the
page's own few lines.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tis_ray.report import svg
from tis_ray.report.figures import Drawing
from tis_ray.report.headline import Headline
from tis_ray.store import write_bytes


@dataclass(frozen=True)
class Section:
    """A part of a page; it is left out where there is nothing to show.

    anchor: its id on the page. words: its name in the list of sections. template: its file.
    """

    anchor: str
    words: str
    shown: bool = True
    template: str = ""


@dataclass(frozen=True)
class Page:
    """What stands around the sections.

    kind: "report" of one study, or "analysis" of several. warnings: what to know first, with what it
    is about. script: JavaScript of the page's own, the only one that may run.
    """

    title: str
    kind: str
    facts: Sequence[str]
    headline: Headline
    sections: Sequence[Section]
    warnings: Sequence[tuple[str, list[str]]] = ()
    script: str = ""
    version: str = ""


def write_page(page: Page, out_dir: str | Path, content: Mapping[str, object]) -> Path:
    """Write `out_dir/index.html` atomically and return its path. Equal input, equal bytes."""
    sections = [
        replace(section, template=f"sections/{section.anchor}.html.j2")
        for section in page.sections
        if section.shown
    ]
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    around = {
        **vars(page),
        "sections": sections,
        "script": Markup(page.script),  # noqa: S704 - a constant of the package
        "script_hash": digest if page.script else "",
        "inline": _inline,
    }
    return write_html(Path(out_dir) / "index.html", "page.html.j2", {**around, **content})


def write_html(path: Path, template: str, content: Mapping[str, object]) -> Path:
    """Write one of the templates to a file, atomically, and return its path."""
    write_bytes(path, html_of(template, content).encode("utf-8", errors="replace"))
    return path


def html_of(template: str, content: Mapping[str, object]) -> str:
    """Return one of the templates, filled; all texts are escaped."""
    environment = Environment(
        loader=PackageLoader("tis_ray.report", package_path="templates"),
        autoescape=True,  # always: the names end in .j2, which would switch the guess off
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def _inline(drawing: Drawing) -> Markup:
    """Return a drawing for the page. Its texts were escaped when the SVG was written."""
    return Markup(svg.themed(drawing.svg))  # noqa: S704
