"""The summary at the end of a run: the comparison, where everything is, what to type next."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tis_ray.analysis import Cell, Legend, TableRow, summarise
from tis_ray.config import Config, plan
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import interval, metrics_of, number
from tis_ray.study.bill import print_bill
from tis_ray.study.labels import legend_of
from tis_ray.study.run import StudyResult

ABREAST = 2
"""Metrics in one table: more do not fit a terminal."""


def results_tables(cells: list[Cell], legend: Legend, *, apart: bool = False) -> list[Table]:
    """Return mean, 95% interval and paired difference to random, for each method and budget.

    Test loss and the first metric of the answers stand in the first table, others in further ones.
    """
    rows = summarise(cells, legend, apart=apart)
    seeds = max(row.n_seeds for row in rows)
    metrics = [metric for metric in metrics_of(rows) if metric.name != "query_loss"]
    tables = []
    for start in range(0, len(metrics), ABREAST):
        shown = metrics[start : start + ABREAST]
        title = f"mean over {seeds} seed(s), [95% interval]; differences are paired with random"
        table = Table(title=None if start else title, box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("method @ budget", no_wrap=True)
        for metric in shown:
            table.add_column(metric.words, justify="right", no_wrap=True)
            table.add_column("− random", justify="right", no_wrap=True)
        for row in rows:
            table.add_row(
                row.label + (f" @ {row.budget}" if row.budget else ""),
                *(text for metric in shown for text in _cells(row, metric)),
                style="bold green" if _verdict(row, shown[0]) == "better" else None,
            )
        tables.append(table)
    return tables


def print_summary(result: StudyResult, config: Config, console: Console) -> None:
    """Print the tables, where everything is, and the next commands."""
    legend = legend_of(config)
    for name, study in result.parts.items():
        console.print(f"[bold]{name}[/bold]", *results_tables(study.cells, legend))
        if study.record is not None:
            print_bill(plan(config)[name], study.record.stages, console)
        console.print(f"report     {study.report}", highlight=False, soft_wrap=True)
    if result.parts:
        console.print(f"together   {result.report}", highlight=False, soft_wrap=True)
        return
    console.print(*results_tables(result.cells, legend))
    if result.record is not None:
        print_bill(config, result.record.stages, console)
    console.print(f"report     {result.report}", highlight=False, soft_wrap=True)
    for ordering in result.orderings:
        place = result.run_dir / "orderings" / ordering.name / "ordering.parquet"
        console.print(f"ordering   {place}", highlight=False, soft_wrap=True)
    console.print(f"rows       {result.run_dir / 'subsets'}", highlight=False, soft_wrap=True)
    kinds = {"adapter": "PEFT folders", "model": "transformers folders"}
    for kind in {cell.model: None for cell in result.cells if cell.model}:
        models = config.artifact_root / "cell-*" / kind
        console.print(f"models     {models}  ({kinds[kind]})", highlight=False, soft_wrap=True)
    if config.tracking.enabled:
        console.print(
            "MLflow     mlflow ui --backend-store-uri "
            f"{config.tracking.uri or default_tracking_uri(config)}",
            highlight=False,
            soft_wrap=True,
        )
    here = result.run_dir.is_relative_to(Path.cwd())
    run = result.run_dir.relative_to(Path.cwd()) if here else result.run_dir
    first = result.orderings[0].table()["id"][0].as_py() if result.orderings else "ID"
    console.print(
        f"next       open the report; tis-ray explain --config {run} {first}",
        highlight=False,
        soft_wrap=True,
    )


def default_tracking_uri(config: Config) -> str:
    """Return the SQLite URI that is used when `tracking.uri` is null."""
    return f"sqlite:///{Path(config.runs).absolute() / 'mlflow.db'}"


def _cells(row: TableRow, metric: MetricDescription) -> tuple[str, str]:
    """Return a metric's mean with its interval, and the same of its difference to random."""
    summary = row.metrics.get(metric.name)
    if summary is None:
        return "", ""
    value, versus = summary.value, summary.vs_random
    places = 1 if metric.share else 3
    mean = number(metric, value.mean, places)
    if value.low is not None and value.high is not None:
        mean += f"\n± {number(metric, (value.high - value.low) / 2, places)}"
    if summary.parse_failures:
        mean += f"\n{100 * summary.parse_failures:.0f}% unreadable"
    if versus is None:
        return mean, ""
    difference = number(metric, versus.difference, places, signed=True).removesuffix(" points")
    return mean, f"{difference}\n{interval(metric, versus, places, signed=True)}".strip()


def _verdict(row: TableRow, metric: MetricDescription) -> str:
    summary = row.metrics.get(metric.name)
    return summary.vs_random.verdict if summary and summary.vs_random else ""
