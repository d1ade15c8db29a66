"""An estimate for people: stage by stage, what it costs, what it needs, what becomes of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from rich import box
from rich.console import Console
from rich.table import Table

from tis_ray.study.bill import money, spell
from tis_ray.study.hardware import OnHardware, rates
from tis_ray.study.priced import Price
from tis_ray.study.stage_prices import StagePrice

LARGE = 1_000_000
"""Rows from which on it is said what the driver takes, and what a bucket would be asked."""


def print_price(price: Price, console: Console) -> None:
    """Print the estimate."""
    console.print(_stages(price))
    for line in _lines(price):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if price.hardware:
        console.print(_elsewhere(price))
    for line in _origins(price):
        console.print(line, highlight=False, markup=False, soft_wrap=True, style="dim")


def _stages(price: Price) -> Table:
    how = f"measured on {price.sample} pool rows"
    if not price.sample:
        how = "counted; the model is too large to be measured here"
    unit = "GPU-hours" if price.device == "cuda" else "core-hours"
    table = Table(
        title=f"estimate: {how}, {price.actors} actor(s) on {price.device}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    columns = ["stage", "rows", "tokens", "time", unit, "GB"]
    paid = price.an_hour
    for column in [*columns, *(["cost"] if paid is not None else [])]:
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    total = StagePrice(
        "total",
        0,
        sum(stage.tokens for stage in price.stages),
        sum(stage.seconds for stage in price.stages),
        price.gigabytes,
        driver=price.driver_seconds,
    )
    for stage in (*price.stages, total):
        hours = stage.seconds / 3600
        table.add_row(
            stage.stage,
            f"{stage.rows:,}" if stage.rows else "",
            f"{stage.tokens:,.0f}" if stage.tokens else "",
            spell(stage.wall(price.actors)),
            _digits(hours * price.cores),
            _digits(stage.gigabytes),
            *([money(hours * price.cores * paid, price.money)] if paid is not None else []),
            style="bold" if stage is total else None,
        )
    return table


def _digits(value: float) -> str:
    if isnan(value):
        return "?"
    if 0 < value < 1e-4:
        return "under 0.0001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _lines(price: Price) -> Iterator[str]:
    rows = price.rows
    if rows.exact:
        yield f"pool       {rows.rows:,.0f} usable rows"
    else:
        yield (
            f"pool       about {rows.rows:,.0f} usable rows (95%: {rows.low:,.0f} to {rows.high:,.0f}), "
            "estimated from parts of its files"
        )
    yield (
        f"lengths    tokens a row ± {price.spread:.0%} (95%); {price.cut:.1%} of the rows are cut at "
        f"data.max_length and lose {price.lost_tokens:.1%} of all tokens"
    )
    refused = ", ".join(f"{count} {reason}" for reason, count in price.refused.items()) or "none"
    yield f"refused    of {price.encoded:,} rows of a sample: {refused}"
    if memory := price.memory:
        how = (
            "measured"
            if price.sample
            else "the model's weights, and what was measured without them"
        )
        yield f"memory     {memory.host:.1f} GB of the host for each actor ({how})"
        yield (
            f"           {memory.gpu:.2g} GB of a GPU (computed): weights {memory.weights:.2g}, training "
            f"{memory.training:.2g}, activations {memory.activations:.2g}, moments {memory.moments:.2g}"
        )
        words = f", {_digits(memory.words)} of them for BM25's words" if memory.words else ""
        yield f"           {_digits(memory.driver)} GB of the driver{words}"
    if price.bucket or price.rows.rows >= LARGE:
        yield (
            f"driver     {spell(price.driver_seconds)} of the time are the driver's own: more actors do not "
            "shorten them"
        )
        yield _requests(price)
    if price.money.storage_gb_month is not None:
        a_month = money(price.gigabytes * price.money.storage_gb_month, price.money)
        yield f"disk       {_digits(price.gigabytes)} GB of artifacts, {a_month} a month"
    if price.an_hour is None:
        field = "gpu_hour" if price.device == "cuda" else "cpu_hour"
        yield f"money      set price.{field} (--set price.{field}=...) to see it"
    yield (
        "not in it  starting Ray itself, distances and the page, tasks of lm-eval, other users of the machine"
    )


def _requests(price: Price) -> str:
    """Return the line of the requests to a bucket."""
    requests, where = price.requests, "" if price.bucket else " if artifacts lay in a bucket"
    paid = requests.cost(price.money)
    cost = "set price.writes_1000 and price.reads_1000 to see their price"
    return (
        f"requests   {requests.writes:,.0f} that write or list, {requests.reads:,.0f} that read{where}; "
        f"{cost if paid is None else money(paid, price.money)}"
    )


def _elsewhere(price: Price) -> Table:
    """Return the hours on other hardware of what a language model computes."""
    counts = sorted({each.count for each in price.hardware})
    paid = price.money.gpu_hour
    table = Table(
        title="on other hardware: what the language models compute, and no more",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("device")
    for count in counts:
        table.add_column(f"time on {count}", justify="right")
    table.add_column("GPU-hours", justify="right")
    if paid is not None:
        table.add_column("cost", justify="right")
    for device in dict.fromkeys(each.device for each in price.hardware):
        own: list[OnHardware] = [each for each in price.hardware if each.device == device]
        one = own[0]
        cost = [money(one.hours * one.count * paid, price.money)] if paid is not None else []
        table.add_row(
            device if one.fits else f"{device} (too small)",
            *(_span(each) for each in own),
            _digits(one.hours * one.count),
            *cost,
        )
    return table


def _span(each: OnHardware) -> str:
    expected, low, high = (spell(3600 * hours) for hours in (each.hours, each.low, each.high))
    return f"{expected} ({low} to {high})"


def _origins(price: Price) -> Iterator[str]:
    if not price.hardware:
        yield (
            f"other hardware: not estimated, for a model of {price.parameters / 1e6:,.1f}M parameters keeps "
            "no GPU busy"
        )
        return
    table = rates()
    share = table["utilisation"]
    yield (
        f"none of these was measured: peaks are the vendors' ({table['date']}; dense bf16), times "
        f"{share['expected']:.0%} ({share['low']:.0%} to {share['high']:.0%}), which is assumed; "
        "tokenisation, text encoders and scores are left out"
    )
    if (paid := price.money.gpu_hour) is not None:
        yield f"cost: {money(paid, price.money)} (price.gpu_hour) for an hour of any of them"
