"""The `ordering-*` artifact: the pool ranked by one method, with the ids and sources of its rows.

Its manifest names, as `rows`, the fingerprints of what it ranks and what it was ranked by: by them a
selected row is found again as it came (`tis_ray.finished.subset`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tis_ray.log import peak_mb
from tis_ray.selectors.constraints import Filled
from tis_ray.storage import Place
from tis_ray.store import Artifact, read_json, read_parquet, write_json, write_parquet
from tis_ray.store.columns import Column, schema_of
from tis_ray.store.sides import Side

ORDERED = {
    "index": Column(pa.int64(), "number of the row among the usable rows of the pool, from 0"),
    "rank": Column(pa.int64(), "its place in the table, from 0"),
    "score": Column(pa.float64(), "what the selector ranked by: a query's score, or mass"),
    "query": Column(
        pa.int32(),
        "number of the query that pulled the row among the usable queries, from 0; -1 for none",
    ),
    "id": Column(pa.string(), "what the study calls the row"),
    "source": Column(pa.string(), "what the study counts the row by"),
    "query_id": Column(pa.string(), "what the study calls the query; null for none"),
    "file": Column(pa.string(), "the file that the row stands in, its path within the pool"),
    "line": Column(pa.int64(), "its line, element or row there, from 1"),
}
"""A row of `ordering.parquet`, best first."""


@dataclass(frozen=True)
class StudyOrdering:
    """An ordering of the pool: `ordering.parquet` with index (row of the pool), rank, score, query
    (row of the query set), id, source, query_id, and the file and line that the row came from;
    `budgets.json` says what each budget came to.

    seed: the one seed it is for, of a selector that draws; None if it is for all of them.
    draw: which draw of the study selected it; None for the study's own.
    """

    representation: str
    selector: str
    artifact: Artifact
    seed: int | None = None
    draw: int | None = None

    @property
    def name(self) -> str:
        """What distinguishes it from the study's other orderings."""
        tail = "" if self.seed is None else f"-seed-{self.seed}"
        tail += "" if self.draw is None else f"-draw-{self.draw}"
        return f"{self.representation}-{self.selector}{tail}"

    @property
    def file(self) -> Place:
        """The ordering's file."""
        return self.artifact / "ordering.parquet"

    def table(self) -> pa.Table:
        """Read the ordering, best first."""
        return read_parquet(self.file)

    def commit(
        self, table: pa.Table, filled: Sequence[Filled], pool: Side, query: Side, seconds: float
    ) -> None:
        """Write the ordering of a pool's rows, and what its budgets came to."""
        write_parquet(self.file, table)
        write_json(self.artifact / "budgets.json", [asdict(entry) for entry in filled])
        rows = {"pool": pool.rows.fingerprint, "query": query.rows.fingerprint}
        self.artifact.commit(
            rows=table.num_rows,
            seconds=seconds,
            peak_mb=peak_mb(),
            details={"rows": rows, "tokens": pool.tokens.fingerprint},
        )

    def filled(self) -> dict[int, Filled]:
        """Read what each budget came to; its subset is the ordering's first `rows` rows."""
        budgets = read_json(self.artifact / "budgets.json")
        return {entry["budget"]: Filled(**entry) for entry in budgets}


def ordering_table(
    pool: Side,
    rows: np.ndarray,
    scores: Sequence[float | None] | np.ndarray,
    queries: np.ndarray,
    query_ids: Sequence[str | None],
    selector: str,
) -> pa.Table:
    """Return an ordering's table: pool rows, best first, with score, query, ids, sources and places."""
    named = pool.facts_of(rows, "row", "id", "source")
    places = pool.origins_of(rows)
    values: dict[str, Any] = {
        "index": rows,
        "rank": np.arange(len(rows)),
        "score": scores,
        "query": queries,
        "id": named["id"].to_pylist(),
        "source": named["source"].to_pylist(),
        "query_id": query_ids,
        "file": places["file"].to_pylist(),
        "line": places["line"].to_pylist(),
    }
    columns = [pa.array(values[name], column.type) for name, column in ORDERED.items()]
    return pa.table(columns, schema=schema_of(ORDERED).with_metadata({"selector": selector}))


def ids_and_sources(side: Side, rows: np.ndarray) -> dict[int, tuple[str, str]]:
    """Return id and source of the given rows, by their numbers."""
    named = side.facts_of(rows, "row", "id", "source").to_pydict()
    return dict(zip(named["row"], zip(named["id"], named["source"], strict=True), strict=True))
