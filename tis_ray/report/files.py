"""Tables and figures of a page as files: CSV and LaTeX, SVG, PDF and PNG."""

from __future__ import annotations

from collections.abc import Iterable

from tis_ray.errors import InputError
from tis_ray.report.charts import KINDS, Drawing
from tis_ray.report.sheets import Sheet
from tis_ray.storage import AnyPlace, place
from tis_ray.store import write_bytes

TABLES, FIGURES = "tables", "figures"


def require_folder(path: AnyPlace | None) -> None:
    """Raise InputError where files cannot be put into `path`: it is a file, or lies below one."""
    if path is None:
        return
    blocking = next((p for p in (place(path), *place(path).parents) if p.is_file()), None)
    if blocking is not None:
        raise InputError(f"--to: {blocking} is a file; give a folder")


def write_files(folder: AnyPlace, drawings: Iterable[Drawing], sheets: Iterable[Sheet]) -> int:
    """Write `tables/NAME.csv|.tex` and `figures/NAME.svg|.pdf|.png|.vl.json`; return how many files.

    Raises InputError where the folder's name is a file's.
    """
    require_folder(folder)
    folder, written = place(folder), 0
    for sheet in sheets:
        for ending, text in (("csv", sheet.csv()), ("tex", sheet.latex())):
            write_bytes(folder / TABLES / f"{sheet.name}.{ending}", text.encode())
            written += 1
    for drawing in drawings:
        for kind in KINDS:
            write_bytes(folder / FIGURES / f"{drawing.name}.{kind}", drawing.file(kind))
            written += 1
    return written
