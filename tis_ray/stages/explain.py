"""Answers about a run from what it left on disk: why a row was chosen, and what is done."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tis_ray.config import Config
from tis_ray.errors import InputError


def explain_row(config: Config, example: str) -> Iterator[str]:
    """Yield one line per ordering: rank, score, the query that pulled it, margin to the next."""
    files = sorted((config.run_dir / "orderings").glob("*/ordering.parquet"))
    if not files:
        raise InputError(f"{config.run_dir}: no ordering yet; run `tis-ray select` first")
    for file in files:
        table = pq.read_table(file)
        method = file.parent.name
        found = table.filter(pc.equal(table["id"], example)).to_pylist()
        if not found:
            yield f"{method}: not among the first {table.num_rows}" + _standing(file, example)
            continue
        row = found[0]
        following = table.filter(
            pc.and_(pc.equal(table["query"], row["query"]), pc.greater(table["rank"], row["rank"]))
        )
        margin = (
            f", {row['score'] - following['score'][0].as_py():.4f} above that query's next choice"
            if following.num_rows
            else ""
        )
        yield (
            f"{method}: rank {row['rank'] + 1} of {table.num_rows}, score {row['score']:.4f}, "
            f"pulled by query {row['query_id']}{margin}; source {row['source']}"
        )


def _standing(ordering: Path, example: str) -> str:
    """Return where an unchosen row's best score stands among all candidates, from the scores."""
    manifest = json.loads((ordering.parent / "manifest.json").read_text())
    folders = list(
        ordering.resolve().parent.parent.glob(f"scores-*-{manifest['inputs']['scores']}")
    )
    if not folders:
        return ""
    scores, columns_N = folders[0], np.load(folders[0] / "columns.npy")
    row = _row_number(scores, example)
    if row is None or row not in columns_N:
        raise InputError(f"id {example!r}: no such usable row in the pool; check the spelling")
    best_N = np.concatenate([np.load(p).max(axis=0) for p in sorted(scores.glob("scores-*.npy"))])
    mine = best_N[np.searchsorted(columns_N, row)]
    return f"; best score {mine:.4f}, place {int((best_N > mine).sum()) + 1} of {len(best_N)}"


def _row_number(scores: Path, example: str) -> int | None:
    """Find a pool row's number by its id, walking from the scores back to the tokens."""
    inputs = json.loads((scores / "manifest.json").read_text())["inputs"]
    pool = inputs.get("pool")
    if pool is None:
        folder = next(scores.parent.glob(f"features-*-{inputs['features']}"))
        pool = json.loads((folder / "manifest.json").read_text())["inputs"]["pool"]
    for path in sorted((scores.parent / f"tokens-{pool}").glob("tokens-*.parquet")):
        table = pq.read_table(path, columns=["row", "id"])
        found = table.filter(pc.equal(table["id"], example))
        if found.num_rows:
            return int(found["row"][0].as_py())
    return None


def status_lines(config: Config) -> Iterator[str]:
    """Yield what the last start of a run did, stage by stage, and how it ended."""
    path = config.run_dir / "events.jsonl"
    if not path.exists():
        yield f"{config.run_dir}: not started; run `tis-ray run`"
        return
    events = [event for event in map(_event, path.read_text().splitlines()) if event]
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
