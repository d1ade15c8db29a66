"""The scores of a representation, with the ids of both sides."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tis_ray.errors import InputError
from tis_ray.finished.lineage import Lineage
from tis_ray.finished.stored_rows import StoredRows
from tis_ray.interactive.table import Table
from tis_ray.store import read_tables

if TYPE_CHECKING:
    import pandas

SHOWN = 3
"""Candidates of each query that are shown."""


class ScoreTable:
    """Scores of N candidates for M queries, which stay on disk until they are asked for.

    rows_N, rows_M: row numbers in pool and query set. candidates, queries: their ids. Rows that cannot be
    used have no scores.
    """

    def __init__(self, made: Lineage, title: str) -> None:
        if made.matrix is None or made.pool is None or made.query is None:
            raise InputError(
                f"{title}: what it was made from is gone; `study.run()` makes it again"
            )
        self.matrix, self.title = made.matrix, title
        self.rows_N, self.rows_M = self.matrix.columns_N, self.matrix.queries_M
        self._pool, self._query = made.pool, made.query

    @property
    def shape(self) -> tuple[int, int]:
        """M and N."""
        return len(self.rows_M), len(self.rows_N)

    @cached_property
    def candidates(self) -> list[str]:
        """The ids of the candidates."""
        return _ids(self._pool, self.rows_N)

    @cached_property
    def queries(self) -> list[str]:
        """The ids of the queries."""
        return _ids(self._query, self.rows_M)

    def to_numpy(self) -> np.ndarray:
        """Return all scores (M, N), float32."""
        return self.matrix.read(np.arange(len(self.rows_N)))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self.to_numpy().astype(dtype or np.float32, copy=False)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame: a row for each query, a column for each candidate, by their ids."""
        import pandas

        return pandas.DataFrame(self.to_numpy(), index=self.queries, columns=self.candidates)

    def best(self, count: int = SHOWN) -> Table:
        """Return the `count` best candidates of each query; of equal ones the first come first."""
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"best: found {count!r}, expected a whole number of at least 1")
        scores_MN, count = self.to_numpy(), min(count, self.shape[1])
        best_MB = np.argsort(-scores_MN, axis=1, kind="stable")[:, :count]
        columns = {
            "query": np.repeat(self.queries, count),
            "place": np.tile(np.arange(1, count + 1), len(best_MB)),
            "candidate": np.array(self.candidates)[best_MB].ravel(),
            "score": np.take_along_axis(scores_MN, best_MB, axis=1).ravel(),
        }
        return Table(pa.table(columns), f"{self.title}: the best of each query")

    def __repr__(self) -> str:
        return f"{self._words()}\n{self.best()!r}"

    def _repr_html_(self) -> str:
        return f"<p>{self._words()}</p>{self.best()._repr_html_()}"

    def _words(self) -> str:
        queries, candidates = self.shape
        return f"{self.title}: {queries:,} queries × {candidates:,} candidates"


def _ids(rows: StoredRows, wanted: np.ndarray) -> list[str]:
    """Return the ids of some rows, in their order."""
    table = read_tables(rows.folder, "rows-*.parquet", columns=["row", "id"])
    places = np.searchsorted(table["row"].to_numpy(), wanted)
    ids: list[str] = table["id"].take(pa.array(places)).to_pylist()
    return ids
