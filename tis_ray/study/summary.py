"""The summary at the end of a run: the comparison, where everything is, what to type next."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tis_ray.analysis import Cell, TableRow, summarise
from tis_ray.analysis.winners import leading_metric, wins
from tis_ray.config import Config, plan
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import counted, decimals, interval, metrics_of, number
from tis_ray.report.headline import headline
from tis_ray.storage.secret import shown_uri
from tis_ray.study.bill import print_bill
from tis_ray.study.labels import legend_of
from tis_ray.study.mlflow_limits import store_uri
from tis_ray.study.run import StudyResult

ABREAST = 2
"""Metrics in one table: more do not fit a terminal."""


def results_tables(rows: list[TableRow]) -> list[Table]:
    """Return mean, 95% interval and difference to random, for each method and budget; winners stand out.

    Test loss and the first metric of the answers stand in the first table, others in further ones.
    """
    leads = leading_metric(rows)
    places = {metric.name: decimals(rows, metric) for metric in metrics_of(rows)}
    seeds = max(row.n_seeds for row in rows)
    metrics = [metric for metric in metrics_of(rows) if metric.name != "query_loss"]
    tables = []
    for start in range(0, len(metrics), ABREAST):
        shown = metrics[start : start + ABREAST]
        title = f"means over {counted(seeds, 'seed')} with 95% intervals; − random with what of it may be luck"
        table = Table(title=None if start else title, box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("method @ budget", no_wrap=True)
        for metric in shown:
            table.add_column(escape(metric.words), justify="right", no_wrap=True)
            table.add_column("− random", justify="right", no_wrap=True)
        for row in rows:
            table.add_row(
                escape(row.label) + (f" @ {row.budget}" if row.budget else ""),
                *(text for metric in shown for text in _cells(row, metric, places[metric.name])),
                style="bold green" if leads and wins(row, leads) else None,
            )
        tables.append(table)
    return tables


def table_of(cells: list[Cell], config: Config) -> list[TableRow]:
    """Return the table of a study's cells."""
    return summarise(
        cells, legend_of(config), budget_unit=config.budget_unit, apart=config.draws_apart
    )


def print_answer(rows: list[TableRow], console: Console) -> None:
    """Print the tables, and what they come to, in the words of the page."""
    console.print(*results_tables(rows))
    found = headline(rows)
    style = {"good": "bold green", "bad": "bold red", "open": "bold"}[found.tone]
    console.print(found.sentence, style=style, highlight=False, markup=False)
    console.print(*found.details[:1], highlight=False, markup=False)
    console.print()


def print_summary(result: StudyResult, config: Config, console: Console) -> None:
    """Print the tables, where everything is, and the next commands."""
    for name, study in result.parts.items():
        _say(console, name, "bold")
        print_answer(table_of(study.cells, plan(config)[name]), console)
        if study.record is not None:
            print_bill(plan(config)[name], study.record.stages, console)
        _say(console, f"report     {study.report}")
    if result.parts:
        _say(console, f"together   {result.report}")
        return
    print_answer(table_of(result.cells, config), console)
    if result.record is not None:
        print_bill(config, result.record.stages, console)
    _say(console, f"report     {result.report}")
    for ordering in result.orderings:
        place = result.run_dir / "orderings" / ordering.name / "ordering.parquet"
        _say(console, f"ordering   {place}")
    _say(console, f"rows       {result.run_dir / 'subsets'}")
    kinds = {"adapter": "PEFT folders", "model": "transformers folders"}
    for kind in {cell.model: None for cell in result.cells if cell.model}:
        models = config.artifact_root / "cell-*" / kind
        _say(console, f"models     {models}  ({kinds[kind]})")
    if config.tracking.enabled:
        store = shown_uri(store_uri(config.tracking.uri, config.runs))
        _say(console, f"MLflow     mlflow ui --backend-store-uri {store}")
    run = result.run_dir
    if isinstance(run, Path) and run.is_relative_to(Path.cwd()):
        run = run.relative_to(Path.cwd())
    first = result.orderings[0].table()["id"][0].as_py() if result.orderings else "ID"
    _say(console, f"next       open the report; tis-ray explain --config {run} {first}")


def _say(console: Console, line: str, style: str | None = None) -> None:
    """Print a line as it is: a path may hold what rich would read as markup."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def _cells(row: TableRow, metric: MetricDescription, places: int) -> tuple[str, str]:
    """Return a metric's mean with its interval, and the same of its difference to random."""
    summary = row.metrics.get(metric.name)
    if summary is None:
        return "", ""
    value, versus = summary.value, summary.vs_random
    mean = f"{number(metric, value.mean, places)}\n{interval(metric, value, places)}".strip()
    if summary.parse_failures:
        mean += f"\n{100 * summary.parse_failures:.0f}% unreadable"
    if versus is None:
        return mean, ""
    difference = number(metric, versus.difference, places, signed=True).removesuffix(" points")
    return mean, f"{difference}\n{interval(metric, versus, places, signed=True)}".strip()
