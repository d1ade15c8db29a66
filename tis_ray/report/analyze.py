"""From a folder of results to tables, figures and a page: what `tis-ray analyze` does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tis_ray.analysis.results import Results
from tis_ray.errors import InputError
from tis_ray.paper.published import read_published
from tis_ray.paper.tables import all_tables
from tis_ray.report.figures import Drawing
from tis_ray.report.findings import (
    budget_words,
    pairs_words,
    quantile_words,
    scope_of,
    shown,
)
from tis_ray.report.paper_figures import budget_figure, difference_figure
from tis_ray.report.paper_page import build_page
from tis_ray.report.quantile_figures import quantile_figure
from tis_ray.report.study_results import is_study, study_results
from tis_ray.store import write_bytes, write_json


def analyze(folders: str | Path | Sequence[str | Path], out: str | Path) -> Path:
    """Write `out/tables.json`, the figures as `out/*.svg` and `out/index.html`; return the page.

    `folders` is one folder of the paper's published results (`paper.published` says which files),
    or run folders of our own studies, each a task. Raises InputError for anything else.
    """
    given = [folders] if isinstance(folders, str | Path) else folders
    results = read_results([Path(folder) for folder in given])
    tables = all_tables(results)
    figures = {"": _differences(results, tables)} | {
        model: list(_model_figures(results, tables, i)) for i, model in enumerate(results.models)
    }
    write_json(Path(out) / "tables.json", tables)
    for drawing in (d for found in figures.values() for d in found):
        write_bytes(Path(out) / f"{drawing.name}.svg", drawing.svg.encode())
    return build_page(results, tables, figures, out)


def read_results(folders: Sequence[Path]) -> Results:
    """Read published results or our own studies, whichever the folders hold."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
    if all(is_study(folder) for folder in folders):
        return study_results(folders)
    if len(folders) > 1:
        other = next(folder for folder in folders if not is_study(folder))
        raise InputError(
            f"{other}: no report/record.json in it; several folders must all be finished runs"
        )
    return read_published(folders[0])


def _differences(results: Results, tables: dict[str, Any]) -> list[Drawing]:
    """Return the figures over all models."""
    of = tables["difference_to_random"][scope_of(results)]
    return [
        difference_figure(results, measure, of[measure.name], pairs_words(results))
        for measure in shown(results)
        if of[measure.name]
    ]


def _model_figures(results: Results, tables: dict[str, Any], i: int) -> Iterator[Drawing]:
    """Yield the figures of the paper's script for one model, and those of its sub-quantiles."""
    model = results.models[i]
    for family in results.families():
        for measure in shown(results):
            caption = budget_words(results, tables, model, family, measure)
            yield budget_figure(results, i, family, measure, caption)
    kinds = [("binning", "quantile", {m: v[i] for m, v in results.quantiles.items()})]
    kinds += [("sub_bin0_focus", "subquantile_of_q1", results.subquantiles.get(model, {}))]
    for kind, table, values in kinds:
        for measure in shown(results):
            if measure.name not in values or not measure.quantile_figure:
                continue
            curves = tables[table][model]
            rho = {
                r: {task: curves[task][r][measure.name]["spearman"] for task in results.tasks}
                for r in results.representations
            }
            caption = quantile_words(results, curves, measure)
            yield quantile_figure(results, model, measure, values[measure.name], rho, kind, caption)
