"""A preview as one page; see `tis_ray.report.html`. It has no script."""

from __future__ import annotations

from collections.abc import Sequence

from tis_ray.data.shown_text import one_line
from tis_ray.errors import InputError
from tis_ray.report.html import html_of, write_html
from tis_ray.report.preview_record import Preview
from tis_ray.report.preview_rows import drawn
from tis_ray.report.preview_text import histogram, row_line, side_lines
from tis_ray.storage import Place
from tis_ray.version import __version__

TEMPLATE = "preview.html.j2"


def write_preview(previews: Sequence[Preview], path: Place) -> Place:
    """Write the page of some previews and return its path. Equal previews, equal bytes.

    Raises InputError where nothing can be written.
    """
    try:
        return write_html(path, TEMPLATE, _content(previews))
    except OSError as error:
        raise InputError(
            f"--html: {path} cannot be written ({error.strerror}); give a file"
        ) from None


def preview_html(previews: Sequence[Preview]) -> str:
    """Return the page of some previews."""
    return html_of(TEMPLATE, _content(previews))


def _content(previews: Sequence[Preview]) -> dict[str, object]:
    return {
        "previews": previews,
        "version": __version__,
        "drawn": drawn,
        "histogram": histogram,
        "one_line": one_line,
        "row_line": row_line,
        "side_lines": side_lines,
    }
