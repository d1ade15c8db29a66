"""Why rows were chosen: answers about finished orderings, from what a run left on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich import box
from rich.markup import escape
from rich.table import Table

from tis_ray.analysis.margins import NEAR
from tis_ray.config import Config, plan, together
from tis_ray.errors import InputError
from tis_ray.finished.choices import choices, duplicates_in_pool, explained, feature_facts
from tis_ray.finished.lineage import Lineage, has_orderings, lineages
from tis_ray.store import write_csv, write_parquet
from tis_ray.store.feature_store import DamagedShardError

MOST_NAMED = 5
"""Near-duplicates of one row that are named."""


def explain_orderings(
    config: Config, out: Path | None = None, near: float = NEAR
) -> Iterator[tuple[str, pa.Table, Path]]:
    """Yield name, table and file of each ordering with all that is known of its rows.

    Each table (see `tis_ray.finished.choices.explained`) is written as .parquet and as .csv into `out`,
    by default `explain/` in the run's folder. Of several studies each has its own folder in `out`, and
    its name before the ordering's.
    """
    studies = plan(config)
    for name, orderings in _selected(config):
        folder = studies[name].run_dir / "explain"
        if out is not None:
            folder = out / name if together(config) else out
        for lineage in orderings:
            with _damage_explained():
                table = explained(lineage, near)
            path = folder / f"{lineage.method}.parquet"
            write_parquet(path, table)
            write_csv(path.with_suffix(".csv"), table)
            yield _of_several(config, name) + lineage.method, table, path


def not_selected(config: Config) -> list[str]:
    """Return the names of a file's studies that have no ordering yet."""
    return [name for name, study in plan(config).items() if not has_orderings(study.run_dir)]


def explain_row(config: Config, example: str, near: float = NEAR) -> Iterator[str]:
    """Yield a line for each ordering, then a line for each representation with features.

    The first say rank, score, the query that pulled the row, margin, what each checkpoint adds, source,
    file and line; or where the row stands among all. The others name its near-duplicates in the pool, those
    with a cosine of `near` or more. Of several studies, each says so by itself.
    """
    ready = dict(_selected(config))
    for study in plan(config).values():
        orderings = ready.get(study.name)
        lines = ["no ordering yet"] if orderings is None else _row_lines(orderings, example, near)
        for line in lines:
            yield _of_several(config, study.name) + line


def _selected(config: Config) -> Iterator[tuple[str, list[Lineage]]]:
    """Yield the studies of a file that have selected, with their orderings; raise where none has."""
    studies = plan(config)
    ready = {name: study for name, study in studies.items() if has_orderings(study.run_dir)}
    for name, study in (ready or studies).items():
        yield name, lineages(study.run_dir)


def _of_several(config: Config, name: str) -> str:
    return f"{name}: " if together(config) else ""


def _row_lines(orderings: list[Lineage], example: str, near: float) -> Iterator[str]:
    ranks: dict[str, dict[str, int]] = {}
    for lineage in orderings:
        ids = lineage.table["id"].to_pylist()
        ranks[lineage.method] = {name: rank for rank, name in enumerate(ids, start=1)}
        if example not in ranks[lineage.method]:
            yield f"{lineage.method}: not among the first {len(ids)}" + _standing(lineage, example)
            continue
        with _damage_explained():
            yield _chosen(lineage, ranks[lineage.method][example] - 1)
    for lineage in {ordering.representation: ordering for ordering in orderings}.values():
        row = lineage.row_of(example)
        with _damage_explained():
            duplicates = None if row is None else duplicates_in_pool(lineage, row, near)
        if duplicates is not None:
            yield _near_line(lineage.representation, duplicates, near, ranks)


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
    why, facts = choices(lineage), feature_facts(lineage, slice(place, place + 1))
    parts = [f"{lineage.method}: rank {row['rank'] + 1} of {lineage.table.num_rows}"]
    if row["score"] is not None:
        parts.append(f"score {row['score']:.4f}")
    query = row["query_id"]
    parts.append("pulled by no query" if query is None else f"pulled by query {query}")
    if why is not None and np.isfinite(why.margin_B[place]):
        parts.append(f"margin {why.margin_B[place]:.4f}")
    if facts is not None and query is not None:
        parts_C = facts.contributions_BC[0]
        terms = " + ".join(f"{part:.4f}" for part in parts_C).replace("+ -", "- ")
        parts.append(f"checkpoints {terms} = {parts_C.sum():.4f}")
    return f"{', '.join(parts)}; source {row['source']}; {row['file']}, line {row['line']}"


def _near_line(
    name: str, duplicates: list[tuple[str, float]], near: float, ranks: dict[str, dict[str, int]]
) -> str:
    """Return a row's near-duplicates in words, the nearest by name, with their best ranks."""
    words = f"{name}: {len(duplicates)} near-duplicate(s) in the pool (cosine >= {near:g})"
    named = []
    for example, cosine in duplicates[:MOST_NAMED]:
        places = [(by_id[example], method) for method, by_id in ranks.items() if example in by_id]
        where = f", rank {min(places)[0]} in {min(places)[1]}" if places else ""
        named.append(f"{example} ({cosine:.3f}{where})")
    more = [f"and {len(duplicates) - MOST_NAMED} more"] if len(duplicates) > MOST_NAMED else []
    return f"{words}: {', '.join([*named, *more])}" if named else words


def _standing(lineage: Lineage, example: str) -> str:
    """Return where an unchosen row's best score stands among all candidates, from the scores."""
    matrix = lineage.matrix
    if matrix is None:
        return ""
    row = lineage.row_of(example)
    place = matrix.places(np.array([] if row is None else [row], np.int64))
    if not len(place):
        if refusal := lineage.refusal_of(example):
            return f"; not used, {refusal}"
        raise InputError(f"id {example!r}: no such usable row in the pool; check the spelling")
    mine = matrix.read(place).max()
    above = sum(int((block.max(axis=0) > mine).sum()) for _, block in matrix.blocks())
    return f"; best score {mine:.4f}, place {above + 1} of {len(matrix.columns_N)}"


@contextmanager
def _damage_explained() -> Iterator[None]:
    """Turn a damaged feature shard, which is put aside then, into what to do."""
    try:
        yield
    except DamagedShardError as damage:
        raise InputError(f"{damage}; `tis-ray run` computes its rows again") from None
