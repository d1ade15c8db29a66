"""The bill: what a run took, stage by stage, beside what its dry run had estimated. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tis_ray.analysis import StageCost
from tis_ray.config import Config
from tis_ray.settings import PriceConfig
from tis_ray.storage import Place, folder_size, place
from tis_ray.store import find_json, read_manifest

CELLS = "fine-tune, evaluate"
"""The stage that trains and evaluates, which an estimate has as two."""


@dataclass(frozen=True)
class Line:
    """One stage: seconds of wall time, and gigabytes, both estimated and as they were; None is unknown."""

    stage: str
    expected: float | None = None
    took: float | None = None
    gigabytes: float | None = None
    written: float | None = None
    reused: bool = False


def bill(config: Config, stages: Sequence[StageCost]) -> list[Line]:
    """Return what the stages of a study took, beside the estimate that a dry run left in its folder."""
    estimate = find_json(config.run_dir / "price.json") or {"stages": {}}
    expected = _expected(estimate["stages"])
    made: dict[str, list[StageCost]] = {}
    for stage in {stage.artifact: stage for stage in stages}.values():
        made.setdefault("tokens" if stage.kind == "tokens" else stage.stage, []).append(stage)
    names = [*expected, *(name for name in made if name not in expected)]
    return [_line(name, expected.get(name), made.get(name, [])) for name in names]


def print_bill(config: Config, stages: Sequence[StageCost], console: Console) -> None:
    """Print the bill of one study: with money where the config says what an hour costs."""
    lines = bill(config, stages)
    estimate = find_json(config.run_dir / "price.json")
    console.print(_table(lines, estimate, config))


def money(amount: float, of: PriceConfig) -> str:
    """Return an amount of money; NaN is not known."""
    if isnan(amount):
        return "?"
    if 0 < amount < 0.005:
        return f"< 0.01 {of.currency}"
    return f"{amount:,.2f} {of.currency}" if amount < 1000 else f"{amount:,.0f} {of.currency}"


def per_second(estimate: Mapping[str, Any] | None, config: Config) -> float | None:
    """Return what a second of the machines of an estimate costs; None where it is not known."""
    if estimate is None:
        return None
    on_gpu = estimate["device"] == "cuda"
    hour = config.price.gpu_hour if on_gpu else config.price.cpu_hour
    each = 1 if on_gpu else estimate["threads"]
    return None if hour is None else hour * estimate["actors"] * each / 3600


def spell(seconds: float) -> str:
    """Return a time in the unit that suits it, with two or three digits; NaN is not known."""
    if isnan(seconds):
        return "?"
    if 0 < seconds < 0.001:
        return "under 1 ms"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            value = seconds / size
            return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _expected(stages: Mapping[str, Mapping[str, float | None]]) -> dict[str, tuple[float, float]]:
    """Return seconds and gigabytes of an estimate by stage, under the names that a run has."""
    found: dict[str, tuple[float, float]] = {}
    for name, stage in stages.items():
        name = CELLS if name in ("fine-tune", "evaluate") else name
        seconds, size = found.get(name, (0.0, 0.0))
        found[name] = seconds + _number(stage["seconds"]), size + _number(stage["gigabytes"])
    return found


def _number(value: float | None) -> float:
    return nan if value is None else value


def _line(name: str, expected: tuple[float, float] | None, made: Sequence[StageCost]) -> Line:
    sizes = [size for stage in made if (size := _gigabytes(place(stage.artifact))) is not None]
    return Line(
        name,
        expected=None if expected is None else expected[0],
        took=sum(stage.seconds for stage in made) if made else None,
        gigabytes=None if expected is None else expected[1],
        written=sum(sizes) if sizes else None,
        reused=bool(made) and all(stage.reused for stage in made),
    )


def _gigabytes(artifact: Place) -> float | None:
    """Return the size of an artifact with the store that it reads; None where there is no one folder."""
    if not artifact.is_dir():
        return None
    folders = [artifact]
    if store := read_manifest(artifact).details.get("store"):
        folders.append(artifact.parent / store)
    return sum(map(folder_size, folders)) / 1e9


def _table(lines: Sequence[Line], estimate: dict[str, Any] | None, config: Config) -> Table:
    paid = per_second(estimate, config)
    title = (
        "what it took" if estimate is None else "what it took, beside the estimate of the dry run"
    )
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    expected = ["estimate"] if estimate is not None else []
    costs = [*(f"{name} cost" for name in expected), "cost"] if paid is not None else []
    for name in ["stage", *expected, "took", *(f"{name} GB" for name in expected), "GB", *costs]:
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    total = Line(
        "total",
        expected=sum(line.expected or 0 for line in lines),
        took=sum(line.took or 0 for line in lines),
        gigabytes=sum(line.gigabytes or 0 for line in lines),
        written=sum(line.written or 0 for line in lines),
    )
    for line in (*lines, total):
        times = [line.expected, line.took] if expected else [line.took]
        sizes = [line.gigabytes, line.written] if expected else [line.written]
        cells = ["" if time is None else spell(time) for time in times]
        if line.reused:
            cells[-1] += " (reused)"
        cells += ["" if size is None else "?" if isnan(size) else f"{size:.2g}" for size in sizes]
        if paid is not None:
            cells += ["" if time is None else money(time * paid, config.price) for time in times]
        table.add_row(line.stage, *cells, style="bold" if line is total else None)
    return table
