"""What the model will see, in a notebook."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence

from rich.console import Console

from tis_ray.report.preview_page import preview_html, write_preview
from tis_ray.report.preview_record import Preview
from tis_ray.report.preview_text import print_preview
from tis_ray.storage import AnyPlace, Place, place

WIDTH = 110
_STYLE = "width: 100%; height: 40em; border: 0; resize: vertical"
_FIT = "this.style.height = Math.min(this.contentDocument.body.scrollHeight + 20, 1600) + 'px'"
"""As high as the page, up to some rows; where a notebook is not trusted it stays as it is, to be scrolled."""


class PreviewPage:
    """Some rows of each side as the model sees them, with what is refused, cut or left out."""

    def __init__(self, previews: Sequence[Preview]) -> None:
        self.previews = previews

    def save(self, path: AnyPlace) -> Place:
        """Write it as a page; return its path."""
        return write_preview(self.previews, place(path))

    def __repr__(self) -> str:
        out = io.StringIO()
        for preview in self.previews:
            print_preview(preview, Console(file=out, width=WIDTH, force_jupyter=False))
        return out.getvalue()

    def _repr_html_(self) -> str:
        page = html.escape(preview_html(self.previews))
        return f'<iframe srcdoc="{page}" onload="{_FIT}" style="{_STYLE}"></iframe>'
