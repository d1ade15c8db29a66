"""The scripts of kept libraries that a page carries: Vega for figures, DataTables for long tables.

Both come with their Python packages, so that a page is made and opened without a network. Vega runs as
its interpreter of expressions (`ast`), and neither needs `eval`: the page's policy forbids it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import vl_convert

from tis_ray.report.charts import VEGALITE
from tis_ray.store import read_text


@cache
def vega_script() -> str:
    """Return Vega-Embed with Vega and Vega-Lite, as `window.vegaEmbed`."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGALITE)
    return _inline(bundle)


@cache
def table_script() -> str:
    """Return DataTables as `window.DataTable`. The package's module exports it instead."""
    text = _read("dt_bundle.js")
    found = re.search(r"export\s*\{([^}]*)\};?", text)
    names = re.search(r"([\w$]+) as default", found[1]) if found else None
    if found is None or names is None:
        raise RuntimeError("itables: its dt_bundle.js exports no DataTables; install itables 2.9")
    whole = text[: found.start()] + f"window.DataTable = {names[1]};" + text[found.end() :]
    return _inline(whole)


@cache
def table_style() -> str:
    """Return the style sheet of DataTables."""
    return _read("dt_bundle.css").replace("</", "<\\/")


def _read(name: str) -> str:
    spec = find_spec("itables")
    assert spec is not None
    assert spec.origin is not None
    return read_text(Path(spec.origin).parent / "html" / name)


def _inline(script: str) -> str:
    """Return a script that may stand in a page: nothing in it ends its element, or begins a comment."""
    return re.sub(r"<(/script|!--|script)", r"\\x3c\1", script, flags=re.IGNORECASE)


def licences() -> str:
    """Return the licences of these scripts, which a page repeats."""
    return read_text(Path(__file__).parent / "templates" / "licences.txt")


def page_script() -> str:
    """Return what is the page's own."""
    return read_text(Path(__file__).parent / "templates" / "page.js")
