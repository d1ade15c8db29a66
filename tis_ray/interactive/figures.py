"""The figures of a report, one by one: each shows itself in a notebook and is a file: SVG, PDF or PNG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup

from tis_ray.config.problems import not_among
from tis_ray.errors import InputError
from tis_ray.report.charts import KINDS, Drawing
from tis_ray.report.html import html_of
from tis_ray.storage import AnyPlace, Place, place
from tis_ray.store import write_bytes


class Figure:
    """One figure, with its caption. `spec` is its Vega-Lite."""

    def __init__(self, drawing: Drawing) -> None:
        self.name, self.title, self.caption = drawing.name, drawing.title, drawing.caption
        self._drawing, self.spec = drawing, drawing.whole

    @property
    def svg(self) -> str:
        """The figure as SVG."""
        return self._drawing.svg

    def save(self, path: AnyPlace) -> Place:
        """Write the figure as .svg, .pdf, .png or .vl.json; return its path. Raises InputError for another ending."""
        path = place(path).expanduser()
        kind = next((kind for kind in KINDS if path.name.lower().endswith(f".{kind}")), None)
        if kind is None:
            endings = ", ".join(f".{kind}" for kind in KINDS)
            raise InputError(f"save: {path} ends in none of {endings}")
        write_bytes(path, self._drawing.file(kind))
        return path

    def __repr__(self) -> str:
        return f"{self.name}: {self.title}"

    def _repr_html_(self) -> str:
        return _html([self])


class Figures(Mapping[str, Figure]):
    """The figures of a study by name; together they show themselves one below the other."""

    def __init__(self, drawings: Mapping[str, Drawing]) -> None:
        self._figures = {name: Figure(drawing) for name, drawing in drawings.items()}

    def __getitem__(self, name: str) -> Figure:
        """Return a figure. Raises InputError where there is none of this name."""
        if name not in self._figures:
            raise InputError(not_among("figures", name, list(self._figures)))
        return self._figures[name]

    def __contains__(self, name: object) -> bool:
        return name in self._figures

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.values()))

    def _repr_html_(self) -> str:
        return _html(list(self.values()))


def _html(figures: list[Figure]) -> str:
    # The texts of a drawing were escaped when it was made.
    drawn = {figure.name: Markup(figure.svg) for figure in figures}  # noqa: S704
    return html_of("figures.html.j2", {"figures": figures, "drawn": drawn})
