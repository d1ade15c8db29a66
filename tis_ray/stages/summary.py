"""The closing words of a run: the comparison, where everything lies, what to type next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tis_ray.analysis import TableRow, summarise
from tis_ray.config import Config
from tis_ray.report.words import interval, method_name, number
from tis_ray.stages.run import StudyResult

PLACES = {"test_loss": 3, "exact_match": 1}


def results_table(cells: list[dict[str, Any]]) -> Table:
    """Return mean, 95% interval and paired difference to random, for each method and budget."""
    rows = summarise(cells)
    seeds = max(row.n_seeds for row in rows)
    table = Table(
        title=f"mean over {seeds} seed(s), [95% interval]; differences are paired with random",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for column in ("method @ budget", "test loss", "− random", "exact match", "− random"):
        table.add_column(
            column, justify="left" if column.startswith("method") else "right", no_wrap=True
        )
    for row in rows:
        better = _verdict(row) == "better"
        table.add_row(
            method_name(row.representation, row.selector)
            + (f" @ {row.budget}" if row.budget else ""),
            *_cells(row, "test_loss"),
            *_cells(row, "exact_match"),
            style="bold green" if better else None,
        )
    return table


def print_summary(result: StudyResult, config: Config, config_file: Path, console: Console) -> None:
    """Print the table, the places and the next commands."""
    console.print(results_table(result.cells))
    console.print(f"report     {result.report}", highlight=False, soft_wrap=True)
    for ordering in result.orderings:
        place = result.run_dir / "orderings" / ordering.name / "ordering.parquet"
        console.print(f"ordering   {place}", highlight=False, soft_wrap=True)
    adapters = config.artifact_root / "cell-*" / "adapter"
    console.print(f"adapters   {adapters}  (PEFT folders)", highlight=False, soft_wrap=True)
    if config.tracking.enabled:
        console.print(
            "MLflow     mlflow ui --backend-store-uri "
            f"{config.tracking.uri or default_tracking_uri(config)}",
            highlight=False,
            soft_wrap=True,
        )
    first = result.orderings[0].table()["id"][0].as_py() if result.orderings else "ID"
    console.print(
        f"next       open the report; tis-ray explain --config {config_file} {first}",
        highlight=False,
        soft_wrap=True,
    )


def default_tracking_uri(config: Config) -> str:
    """Return the SQLite URI that is used when `tracking.uri` is null."""
    return f"sqlite:///{Path(config.runs).absolute() / 'mlflow.db'}"


def _cells(row: TableRow, metric: str) -> tuple[str, str]:
    """Return a metric's mean with its interval, and the same of its difference to random."""
    found = row.metrics.get(metric)
    if found is None:
        return "", ""
    value, versus, places = found.value, found.vs_random, PLACES[metric]
    mean = number(metric, value.mean, places)
    if value.low is not None and value.high is not None:
        mean += f"\n± {number(metric, (value.high - value.low) / 2, places)}"
    if versus is None:
        return mean, ""
    difference = number(metric, versus.difference, places, signed=True).removesuffix(" points")
    return mean, f"{difference}\n{interval(metric, versus, places, signed=True)}".strip()


def _verdict(row: TableRow) -> str:
    found = row.metrics.get("test_loss")
    return found.vs_random.verdict if found and found.vs_random else ""
