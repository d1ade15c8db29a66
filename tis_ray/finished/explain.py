"""Answers about a run from what it left on disk: why a row was chosen, and what is done."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from rich import box
from rich.markup import escape
from rich.table import Table

from tis_ray.analysis.choice import NEAR
from tis_ray.config import Config
from tis_ray.errors import InputError
from tis_ray.finished.choices import choices, duplicates_in_pool, explained, likeness
from tis_ray.finished.lineage import Lineage, lineages
from tis_ray.store import read_lines, write_csv, write_parquet
from tis_ray.store.feature_store import DamagedShardError

MOST_NAMED = 5
"""Near-duplicates of one row that are named."""


def explain_orderings(
    config: Config, out: Path | None = None, near: float = NEAR
) -> Iterator[tuple[str, pa.Table, Path]]:
    """Yield name, table and file of each ordering with all that is known of its rows.

    Each table (see `tis_ray.finished.choices.explained`) is written as .parquet and as .csv into `out`,
    by default `explain/` in the run's folder.
    """
    folder = out or config.run_dir / "explain"
    for lineage in lineages(config.run_dir):
        with _damage_told():
            table = explained(lineage, near)
        path = folder / f"{lineage.method}.parquet"
        write_parquet(path, table)
        write_csv(path.with_suffix(".csv"), table)
        yield lineage.method, table, path


def explain_row(config: Config, example: str, near: float = NEAR) -> Iterator[str]:
    """Yield a line for each ordering, then a line for each representation with features.

    The first say rank, score, the query that pulled the row, margin, what each checkpoint adds, and
    source; or where the row stands among all. The others name its near-duplicates in the pool, those
    with a cosine of `near` or more.
    """
    found = lineages(config.run_dir)
    ranks: dict[str, dict[str, int]] = {}
    for lineage in found:
        ids = lineage.table["id"].to_pylist()
        ranks[lineage.method] = {name: rank for rank, name in enumerate(ids, start=1)}
        if example not in ranks[lineage.method]:
            yield f"{lineage.method}: not among the first {len(ids)}" + _standing(lineage, example)
            continue
        with _damage_told():
            yield _chosen(lineage, ranks[lineage.method][example] - 1)
    for lineage in {one.representation: one for one in found}.values():
        row = lineage.row_of(example)
        with _damage_told():
            near_ones = None if row is None else duplicates_in_pool(lineage, row, near)
        if near_ones is not None:
            yield _near_line(lineage.representation, near_ones, near, ranks)


def first_rows(method: str, table: pa.Table, most: int = 10) -> Table:
    """Return the first rows of an explained ordering for the screen; ranks count from 1."""
    shown = Table(title=f"{method}: first {min(most, table.num_rows)} of {table.num_rows} rows")
    shown.box, shown.title_justify = box.SIMPLE_HEAD, "left"
    columns = ["rank", "id", "score", "query_id", "margin", "duplicates", "source"]
    columns = [name for name in columns if name in table.column_names]
    for name in columns:
        shown.add_column(name, justify="left" if name in ("id", "query_id", "source") else "right")
    for row in table.slice(0, most).to_pylist():
        row["rank"] += 1
        cells = ("" if row[name] is None else row[name] for name in columns)
        shown.add_row(*(f"{c:.4f}" if isinstance(c, float) else escape(str(c)) for c in cells))
    return shown


def _chosen(lineage: Lineage, place: int) -> str:
    """Return what is known of a selected row, by its place in the ordering."""
    row = lineage.table.slice(place, 1).to_pylist()[0]
    found, alike = choices(lineage), likeness(lineage, slice(place, place + 1))
    words = f"{lineage.method}: rank {row['rank'] + 1} of {lineage.table.num_rows}, "
    words += f"score {row['score']:.4f}, "
    words += (
        "pulled by no query" if row["query_id"] is None else f"pulled by query {row['query_id']}"
    )
    if found is not None and np.isfinite(found.margin_B[place]):
        words += f", margin {found.margin_B[place]:.4f}"
    if alike is not None and row["query_id"] is not None:
        parts_C = alike.contributions_BC[0]
        terms = " + ".join(f"{part:.4f}" for part in parts_C).replace("+ -", "- ")
        words += f", checkpoints {terms} = {parts_C.sum():.4f}"
    return f"{words}; source {row['source']}"


def _near_line(
    name: str, near_ones: list[tuple[str, float]], near: float, ranks: dict[str, dict[str, int]]
) -> str:
    """Return a row's near-duplicates in words, the nearest by name, with their best ranks."""
    words = f"{name}: {len(near_ones)} near-duplicate(s) in the pool (cosine >= {near:g})"
    told = []
    for example, cosine in near_ones[:MOST_NAMED]:
        places = [(by_id[example], method) for method, by_id in ranks.items() if example in by_id]
        where = f", rank {min(places)[0]} in {min(places)[1]}" if places else ""
        told.append(f"{example} ({cosine:.3f}{where})")
    more = [f"and {len(near_ones) - MOST_NAMED} more"] if len(near_ones) > MOST_NAMED else []
    return ": ".join([words, ", ".join([*told, *more])]) if told else words


def _standing(lineage: Lineage, example: str) -> str:
    """Return where an unchosen row's best score stands among all candidates, from the scores."""
    matrix = lineage.matrix
    if matrix is None:
        return ""
    row = lineage.row_of(example)
    place = matrix.places(np.array([] if row is None else [row], np.int64))
    if not len(place):
        raise InputError(f"id {example!r}: no such usable row in the pool; check the spelling")
    mine = matrix.read(place).max()
    above = sum(int((block.max(axis=0) > mine).sum()) for _, block in matrix.blocks())
    return f"; best score {mine:.4f}, place {above + 1} of {len(matrix.columns_N)}"


@contextmanager
def _damage_told() -> Iterator[None]:
    """Turn a damaged feature shard, which is put aside then, into what to do."""
    try:
        yield
    except DamagedShardError as damage:
        raise InputError(f"{damage}; `tis-ray run` computes its rows again") from None


def status_lines(config: Config) -> Iterator[str]:
    """Yield what the last start of a run did, stage by stage, and how it ended."""
    path = config.run_dir / "events.jsonl"
    if not path.exists():
        yield f"{config.run_dir}: not started; run `tis-ray run`"
        return
    events = [event for event in map(_event, read_lines(path)) if event]
    starts = [i for i, event in enumerate(events) if event["event"] == "start"]
    if not starts:
        yield f"{path}: holds no start; run `tis-ray run`"
        return
    last = events[starts[-1] :]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last[0]["time"]))
    yield f"{config.name}: start {len(starts)}, {when}: {last[0]['command']}"
    for event in last:
        if event["event"] == "stage":
            how = "reused" if event["reused"] else f"{event['seconds']:.1f} s"
            yield f"  done     {event['stage']:<22} {event['rows']:>8} rows  {how}  {event['note']}"
        elif event["event"] == "cells":
            yield f"  cells    {event['total']} in all, {event['reused']} reused"
        elif event["event"] in ("done", "failed"):
            yield f"  {event['event']:<8} {event.get('error', '')}"
    if last[-1]["event"] not in ("done", "failed"):
        alive = psutil.pid_exists(last[0]["pid"])
        yield "  running" if alive else "  stopped before its end; `tis-ray run` continues it"


def _event(line: str) -> dict[str, Any]:
    """Read one event; the last line of a run that was killed may be half written."""
    try:
        event: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return event
