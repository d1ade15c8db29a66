"""Why one row was chosen, or was not: what the orderings of a run say of it, from what the run left on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tis_ray.analysis.margins import NEAR
from tis_ray.config import Config, plan
from tis_ray.errors import InputError
from tis_ray.finished.choices import contributions, duplicates_in_pool, margin_of
from tis_ray.finished.lineage import Lineage, has_orderings, lineages
from tis_ray.finished.stored_rows import StoredRows, first_words
from tis_ray.store import TableRow
from tis_ray.store.feature_store import DamagedShardError

BESIDE = 2
"""Neighbours in rank that are named, on either side."""
SCANNED = 64 * 2**20
"""Bytes of features that are read for near-duplicates without being asked to: under a second."""


@dataclass(frozen=True)
class Neighbour:
    """A row of an ordering, or one that is nearly another; begins: its first words."""

    id: str
    rank: int | None = None
    score: float | None = None
    cosine: float | None = None
    begins: str = ""


@dataclass(frozen=True)
class Verdict:
    """What one ordering says of a row.

    rank: from 1; None if it is not among the `of` rows. query, query_id: what pulled it or, where
        `pulled` is false, the query that gives it most. place: of its best score among all `candidates`.
    margin, checkpoints: see `tis_ray.analysis.margins` and `choices.contributions`.
    refused: why the row had no part.
    """

    method: str
    of: int
    rank: int | None = None
    score: float | None = None
    query: int | None = None
    query_id: str | None = None
    pulled: bool = False
    margin: float | None = None
    checkpoints: list[float] = field(default_factory=list)
    place: int | None = None
    candidates: int | None = None
    refused: str | None = None
    beside: list[Neighbour] = field(default_factory=list)


@dataclass(frozen=True)
class NearRows:
    """The near-duplicates of a row in the pool, by one representation: nearest first.

    rows: None where they were not looked for, since `size` bytes of features would be read.
    """

    representation: str
    cosine: float
    rows: list[Neighbour] | None
    size: int = 0


@dataclass(frozen=True)
class Explained:
    """A row, and what one study says of it.

    row: as it was read; None where that is gone, or nothing could be read of it. queries: those that
    the verdicts name, by id.
    """

    study: str
    example: str
    row: TableRow | None
    queries: dict[str, TableRow]
    verdicts: list[Verdict]
    near: list[NearRows]


def explain_row(config: Config, example: str, near: float | None = None) -> Iterator[Explained]:
    """Yield what each study of a file says of a row; those that have not selected yet are left out.

    example: an id, the id that the row's own file gives it, or `FILE:LINE`. near: the cosine from which
    rows are near-duplicates; None looks for them (from 0.95 on) where that takes no time. Raises
    InputError, with the nearest spellings, for a row that is not there.
    """
    studies = plan(config)
    ready = {n: study for n, study in studies.items() if has_orderings(study.run_dir)} or studies
    for name, study in ready.items():
        with damage_explained():
            yield _explained(name, lineages(study.run_dir), example, near)


def _explained(study: str, orderings: list[Lineage], example: str, near: float | None) -> Explained:
    pool = next((one.pool for one in orderings if one.pool), None)
    queries = next((one.query for one in orderings if one.query), None)
    row = _number_of(orderings, pool, example)
    verdicts = [_verdict(one, row, example) for one in orderings]
    if row is None and not any(verdict.refused for verdict in verdicts):
        meant = pool.nearest(example) if pool else []
        near_it = f"; did you mean {' or '.join(meant)}?" if meant else "; check the spelling"
        raise InputError(f"id {example!r}: no such row in the pool{near_it}")
    asked = _read(queries, {v.query for v in verdicts if v.query is not None})
    by_representation = {one.representation: one for one in orderings}
    near_rows = (_near_rows(one, row, near, orderings) for one in by_representation.values())
    return Explained(
        study,
        example,
        None if row is None else _read(pool, {row}).get(row),
        {asked[v.query]["id"]: asked[v.query] for v in verdicts if v.query in asked},
        verdicts,
        [found for found in near_rows if found is not None],
    )


def _number_of(orderings: list[Lineage], pool: StoredRows | None, example: str) -> int | None:
    """Return the number of a row; from the orderings alone where what was read of the pool is gone."""
    if pool is not None:
        return pool.find(example)
    for ordering in orderings:
        ids = ordering.table["id"].to_pylist()
        if example in ids:
            return int(ordering.table["index"][ids.index(example)].as_py())
    return None


def _verdict(lineage: Lineage, row: int | None, example: str) -> Verdict:
    table, matrix = lineage.table, lineage.matrix
    index = table["index"].to_pylist()  # `to_numpy` would import pandas
    if row not in index:
        return _unchosen(lineage, row, example)
    place = index.index(row)
    chosen = table.slice(place, 1).to_pylist()[0]
    pulled = chosen["query_id"] is not None
    query, margin = int(chosen["query"]), None
    if matrix is not None:
        if not pulled:
            best = matrix.read(matrix.places(np.array([row])))[:, 0].argmax()
            query = int(matrix.queries_M[best])
        line = int(np.searchsorted(matrix.queries_M, query))
        if pulled:
            margin = margin_of(matrix, np.array(index), place, line)
    added = contributions(lineage, int(chosen["index"]), query) if query >= 0 else None
    return Verdict(
        lineage.method,
        table.num_rows,
        rank=place + 1,
        score=chosen["score"],
        query=query if query >= 0 else None,
        query_id=chosen["query_id"] or _id_of(lineage.query, query),
        pulled=pulled,
        margin=margin,
        checkpoints=[] if added is None else added.tolist(),
        beside=_beside(lineage, place),
    )


def _unchosen(lineage: Lineage, row: int | None, example: str) -> Verdict:
    """Return where a row that was not chosen stands among all candidates, or why it was none."""
    method, of, matrix = lineage.method, lineage.table.num_rows, lineage.matrix
    if row is None or matrix is None or not len(column := matrix.places(np.array([row]))):
        name = example if row is None or lineage.pool is None else _id_of(lineage.pool, row)
        return Verdict(method, of, refused=lineage.refusal_of(name or example))
    scores_M = matrix.read(column)[:, 0]
    best, query = float(scores_M.max()), int(matrix.queries_M[scores_M.argmax()])
    added = contributions(lineage, row, query)
    return Verdict(
        method,
        of,
        score=best,
        query=query,
        query_id=_id_of(lineage.query, query),
        checkpoints=[] if added is None else added.tolist(),
        place=1 + sum(int((block.max(axis=0) > best).sum()) for _, block in matrix.blocks()),
        candidates=len(matrix.columns_N),
    )


def _beside(lineage: Lineage, place: int) -> list[Neighbour]:
    """Return the rows that stand around a place of an ordering."""
    first = max(0, place - BESIDE)
    rows = lineage.table.slice(first, place + BESIDE + 1 - first).to_pylist()
    texts = _read(lineage.pool, {row["index"] for row in rows})
    return [
        Neighbour(
            row["id"],
            rank,
            row["score"],
            begins=first_words(texts[row["index"]]) if row["index"] in texts else "",
        )
        for rank, row in enumerate(rows, first + 1)
        if rank != place + 1
    ]


def _near_rows(
    lineage: Lineage, row: int | None, near: float | None, orderings: list[Lineage]
) -> NearRows | None:
    """Return a row's near-duplicates in the pool; None where its representation keeps no features of it."""
    if row is None or lineage.features is None:
        return None
    size = lineage.features.size("pool")
    if near is None and size > SCANNED:
        return NearRows(lineage.representation, NEAR, None, size)
    cosine = NEAR if near is None else near
    found = duplicates_in_pool(lineage, row, cosine)
    if found is None:
        return None
    own = (one for one in orderings if one.representation == lineage.representation)
    ranks = [one.table["index"].to_pylist() for one in own]
    texts = _read(lineage.pool, {number for number, _ in found})
    rows = [
        Neighbour(
            texts[number]["id"] if number in texts else str(number),
            min((of.index(number) + 1 for of in ranks if number in of), default=None),
            cosine=alike,
            begins=first_words(texts[number]) if number in texts else "",
        )
        for number, alike in found
    ]
    return NearRows(lineage.representation, cosine, rows)


def _id_of(rows: StoredRows | None, number: int) -> str | None:
    found = _read(rows, {number} if number >= 0 else set()).get(number)
    return None if found is None else str(found["id"])


def _read(rows: StoredRows | None, numbers: set[int]) -> dict[int, TableRow]:
    return rows.read(numbers) if rows is not None and numbers else {}


@contextmanager
def damage_explained() -> Iterator[None]:
    """Turn a damaged feature shard, which is put aside then, into what to do."""
    try:
        yield
    except DamagedShardError as damage:
        raise InputError(f"{damage}; `tis-ray run` computes its rows again") from None
