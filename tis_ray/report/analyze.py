"""From a folder of results to tables, figures and a page: what `tis-ray analyze` does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tis_ray.analysis import TableRow
from tis_ray.analysis.pooled_table import pooled_rows
from tis_ray.analysis.result_arrays import Results
from tis_ray.errors import InputError
from tis_ray.paper.budget_tables import Table
from tis_ray.paper.published import read_published
from tis_ray.paper.tables import all_tables
from tis_ray.report.analysis_page import analysis_sheets, build_page
from tis_ray.report.charts import Drawing
from tis_ray.report.figures import difference_drawing
from tis_ray.report.files import require_folder, write_files
from tis_ray.report.findings import budget_words, quantile_words
from tis_ray.report.study_results import RECORD, is_study, study_results
from tis_ray.report.task_figures import budget_figure, quantile_figure
from tis_ray.storage import AnyPlace, Place, local_folder, place
from tis_ray.store import write_json


def analyze(
    folders: AnyPlace | Sequence[AnyPlace], out: AnyPlace, to: AnyPlace | None = None
) -> Place:
    """Write `out/tables.json` and `out/index.html`; return the page.

    to: a folder for every table as CSV and LaTeX and every figure as SVG, PDF and PNG.

    `folders` is one folder of the paper's published results (`paper.published` says which files),
    or run folders of our own studies, each a task. Raises InputError for anything else.
    """
    require_folder(to)
    given = [folders] if isinstance(folders, str) or not isinstance(folders, Sequence) else folders
    results = read_results([place(folder) for folder in given])
    tables = all_tables(results)
    rows = pooled_rows(results, results.scopes[results.scope])
    model_figures = {
        model: list(_model_figures(results, tables, i)) for i, model in enumerate(results.models)
    }
    drawings = [*_differences(results, rows), *(d for of in model_figures.values() for d in of)]
    write_json(place(out) / "tables.json", tables)
    if to is not None:
        write_files(to, drawings, analysis_sheets(results, tables, rows))
    return build_page(
        results,
        tables,
        rows,
        {drawing.name: drawing for drawing in drawings},
        {model: [drawing.name for drawing in of] for model, of in model_figures.items()},
        out,
    )


def read_results(folders: Sequence[Place]) -> Results:
    """Read published results or our own studies, whichever the folders hold."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        if (folder / "config.yaml").is_file() and not is_study(folder):
            raise InputError(
                f"{folder}: this study has not ended (no {RECORD}); run it to its end, `tis-ray run --config "
                f"{folder}` continues it"
            )
    if all(is_study(folder) for folder in folders):
        return study_results(folders)
    if len(folders) > 1:
        other = next(folder for folder in folders if not is_study(folder))
        raise InputError(
            f"{other}: no report/record.json in it; several folders must all be finished runs"
        )
    return read_published(local_folder(folders[0]))


def _differences(results: Results, rows: Sequence[TableRow]) -> Iterator[Drawing]:
    """Yield the figures over all models."""
    for metric in results.shown:
        drawing = difference_drawing(rows, metric, results.figure_names[metric.name])
        if drawing.spec:
            yield drawing


def _model_figures(results: Results, tables: Table, i: int) -> Iterator[Drawing]:
    """Yield the figures of the paper's script for one model, and those of its sub-quantiles."""
    model = results.models[i]
    for family in results.families():
        for metric in results.shown:
            caption = budget_words(results, tables, model, family, metric)
            drawing = budget_figure(results, i, family, metric, caption)
            if drawing.spec:
                yield drawing
    kinds = [("binning", "quantile", {m: v[i] for m, v in results.quantiles.items()})]
    kinds += [("sub_bin0_focus", "subquantile_of_q1", results.subquantiles.get(model, {}))]
    for kind, table, values in kinds:
        for metric in results.shown:
            if metric.name not in values or metric.name not in results.quantile_figure_names:
                continue
            curves = tables[table][model]
            rho = {
                r: {task: curves[task][r][metric.name]["spearman"] for task in results.tasks}
                for r in results.representations
            }
            caption = quantile_words(results, curves, metric)
            yield quantile_figure(results, model, metric, values[metric.name], rho, kind, caption)
