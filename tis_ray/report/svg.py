"""The style of all figures, and their SVG: fixed bytes, unique ids, light and dark colours.

Figures are drawn in one set of colours. `themed` replaces each by a CSS variable with that colour
as its fallback, so that a page can show the same drawing on a dark ground. All are 5.2 inches wide
with text of 10 points or more, which a phone shows at about its real size.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 5.2
"""Width of every figure in inches (374 points)."""

INK, SOFT, RULE, GROUND = "#1b1f24", "#57606a", "#d8dee4", "#fefefe"
INK_ON_FILL = "#1c2025"
"""Text on a coloured bar: the bars are light in both modes, so this stays dark."""
BETTER, WORSE, OPEN = "#00795a", "#c24a00", "#6e7781"
QUERY = "#c8102e"
CROWD = "#8250df"
"""Selected rows that are too many for rings; inside a picture, so it must do on both grounds."""

METHOD_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#5b3fa0",
)
"""Okabe and Ito's colours, safe for colour-blind readers, without yellow; then a violet."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SOURCE_COLOURS = (
    "#77aadd",
    "#ee8866",
    "#eedd88",
    "#ffaabb",
    "#44bb99",
    "#99ddff",
    "#bbcc33",
)
"""Tol's "light" scheme: calm fills on which dark text can be read."""
OTHER_COLOUR = "#c9ced4"

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # texts of users: "$" is a dollar
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 10.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "none",
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "tis_ray",
    "svg.fonttype": "none",  # text stays text: small, searchable, and in the page's own font
}

_VARIABLES = {
    INK: "ink",
    SOFT: "soft",
    RULE: "rule",
    GROUND: "ground",
    BETTER: "better",
    WORSE: "worse",
    OPEN: "open",
    QUERY: "query",
    **{colour: f"m{i}" for i, colour in enumerate(METHOD_COLOURS)},
}
_LONGEST_PREFIX = 30
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"


def draw(
    name: str,
    title: str,
    summary: str,
    height: float,
    paint: Callable[[Figure], None],
    dpi: int = 150,
) -> str:
    """Return a figure as an SVG element, `height` inches tall.

    `paint` fills the figure. `title` and `summary` are what a screen reader says; `dpi` is the
    sharpness of parts drawn as a picture. Equal input gives equal bytes.
    """
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser has fonts for the scripts that the measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        buffer = io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", dpi=dpi, metadata=nothing)
    # Every id in the figure begins with its name: a long one would double the file.
    prefix = name if len(name) <= _LONGEST_PREFIX else f"f{zlib.crc32(name.encode()):x}"
    return _clean(buffer.getvalue(), prefix, title, summary)


def figure_name(kind: str, metric: str) -> str:
    """Return a figure's name, which is also that of its file."""
    return f"{kind}_{re.sub(r'[^A-Za-z0-9_-]', '-', metric)}"


def themed(svg: str) -> str:
    """Replace the drawing's colours by CSS variables that fall back to them."""
    return re.sub(
        r"((?:fill|stroke): )(#[0-9a-f]{6})",
        lambda found: (
            f"{found[1]}var(--{_VARIABLES[found[2]]}, {found[2]})"
            if found[2] in _VARIABLES
            else found[0]
        ),
        svg,
    )


def short(text: str, most: int = 26) -> str:
    """Return a label that fits: control characters out, the middle cut when it is too long."""
    text = re.sub(r"[^\S ]+|[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", " ", text)
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[head + 1 - most :]}"


def source_colours(weights: dict[str, float]) -> dict[str, str]:
    """Return source → colour, heaviest first: the heaviest have their own, the rest share a grey."""
    heaviest = sorted(weights, key=lambda source: (-weights[source], source))
    return {
        source: SOURCE_COLOURS[i] if i < len(SOURCE_COLOURS) else OTHER_COLOUR
        for i, source in enumerate(heaviest)
    }


def bare(axes: Axes) -> None:
    """Remove ticks, spines and grid: a plane without units."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _clean(raw: bytes, name: str, title: str, summary: str) -> str:
    """Drop the prolog and the fixed size, make ids unique to this figure, add the title."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(raw)  # noqa: S314 - matplotlib wrote it a line above
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for defs in root.findall(f"{{{_SVG}}}defs"):
        for sheet in defs.findall(f"{{{_SVG}}}style"):  # inline, it would style the whole page
            defs.remove(sheet)
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    for node in root.iter():
        for key, value in list(node.attrib.items()):
            if key == "id":
                node.set(key, f"{name}-{value}")
            elif key == _LINK and value.startswith("#"):
                node.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                node.set(key, value.replace("url(#", f"url(#{name}-"))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for position, (tag, text) in enumerate((("title", title), ("desc", summary))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = short(text, 10_000)
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
