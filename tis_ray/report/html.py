"""Writes a page from its templates: one HTML file that needs no network, no fonts, no other file.

Texts of pool and queries, and names of models, tasks and methods, come from files. They reach the page
through the templates' auto-escaping, or as data that the page's script sets as text. A content security
policy allows no script but those whose hash it names, and no `eval`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tis_ray.report.charts import Drawing
from tis_ray.report.headline import Headline
from tis_ray.report.libraries import (
    licences,
    page_script,
    table_script,
    table_style,
    vega_script,
)
from tis_ray.report.terms import Glossary
from tis_ray.storage import AnyPlace, Place, place
from tis_ray.store import write_bytes


@dataclass(frozen=True)
class Section:
    """A part of a page; it is left out where there is nothing to show.

    anchor: its id on the page, and its template. words: its name in the list of sections. title: its
    heading. fold: whether it is closed until the reader opens it; hint: what a closed one says of itself.
    """

    anchor: str
    words: str
    title: str
    shown: bool = True
    fold: bool = False
    hint: str = ""
    template: str = ""


@dataclass(frozen=True)
class Page:
    """What stands around the sections.

    kind: "report" of one study, or "analysis" of several. warnings: what to know first, with what it
    is about. metrics: name → words of those that the page can show, one at a time. data: what scripts
    read, by the id of its element.
    """

    title: str
    kind: str
    facts: Sequence[str]
    headline: Headline
    sections: Sequence[Section]
    figures: Mapping[str, Drawing]
    metrics: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[tuple[str, list[str]]] = ()
    data: Mapping[str, object] = field(default_factory=dict)
    terms: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


def write_page(page: Page, out_dir: AnyPlace, content: Mapping[str, object]) -> Place:
    """Write `out_dir/index.html` atomically and return its path. Equal input, equal bytes."""
    sections = [
        replace(section, template=f"sections/{section.anchor}.html.j2")
        for section in page.sections
        if section.shown
    ]
    scripts = [vega_script(), table_script(), page_script()]
    glossary = Glossary(page.terms)
    specs = {name: drawing.spec for name, drawing in page.figures.items()}
    data = {"figure-data": specs, **page.data} if specs else page.data
    around = {
        **vars(page),
        "sections": sections,
        "scripts": [Markup(script) for script in scripts],  # noqa: S704 - of packages and ours
        "hashes": [_digest(script) for script in scripts],
        "table_style": Markup(table_style()),  # noqa: S704
        "data": {name: packed(value) for name, value in data.items() if value},
        "explained": glossary.marked,
        "notes": glossary.notes,
        "licences": licences(),
    }
    return write_html(place(out_dir) / "index.html", "page.html.j2", {**around, **content})


def packed(value: object) -> str:
    """Return a value as JSON, compressed, in base64: the form in which a page carries its data."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    raw = text.encode("utf-8", errors="replace")
    return base64.b64encode(gzip.compress(raw, compresslevel=6, mtime=0)).decode()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def write_html(path: Place, template: str, content: Mapping[str, object]) -> Place:
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
