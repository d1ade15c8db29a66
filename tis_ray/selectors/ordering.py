"""Orderings, which selectors return, and checks of the scores and budgets that selectors are given."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

Scores = NDArray[np.floating]
Indices = NDArray[np.int64]

COLUMNS = {"index": "int64", "rank": "int64", "score": "float64", "query": "int32"}
"""The columns of an ordering as a table, and their types in Arrow."""


@dataclass(frozen=True, eq=False)
class Ordering:
    """A ranking of candidates, best first. Smaller budgets are its prefixes.

    indices: (B,) int64, columns of `scores_MN`, each at most once.
    scores: (B,) float32 or float64, what the selector ranked by.
    queries: (B,) int32, the query that pulled each candidate; -1 if none did.
    selector: the name of the selector that made it.
    """

    indices: Indices
    scores: Scores
    queries: NDArray[np.int32]
    selector: str

    def __post_init__(self) -> None:
        indices = np.array(self.indices, dtype=np.int64)
        scores = np.array(self.scores)
        queries = np.array(self.queries, dtype=np.int32)
        if not indices.shape == scores.shape == queries.shape == (indices.size,):
            raise InputError(
                f"ordering: indices {indices.shape}, scores {scores.shape} and queries "
                f"{queries.shape} must be one-dimensional and equally long"
            )
        ascending = np.sort(indices)
        if ascending.size and ascending[0] < 0:
            raise InputError(f"ordering: index {ascending[0]} is negative")
        if (ascending[1:] == ascending[:-1]).any():
            raise InputError("ordering: a candidate appears more than once")
        for name, array in (("indices", indices), ("scores", scores), ("queries", queries)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return self.indices.size

    def prefix(self, budget: int) -> Ordering:
        """Return the first `budget` candidates; InputError if there are fewer."""
        budget = checked_budget(budget, len(self))
        return Ordering(
            self.indices[:budget], self.scores[:budget], self.queries[:budget], self.selector
        )

    def to_table(self) -> pa.Table:
        """Return columns index, rank, score, query; the selector's name is in the metadata."""
        import pyarrow as pa  # configs are read without it

        columns = [
            self.indices,
            np.arange(len(self), dtype=np.int64),
            self.scores.astype(np.float64),
            self.queries,
        ]
        schema = pa.schema(
            [(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()],
            {"selector": self.selector},
        )
        return pa.table([pa.array(column) for column in columns], schema=schema)

    @classmethod
    def from_table(cls, table: pa.Table) -> Ordering:
        """Return the ordering in a table of `to_table`, in any row order (scores become float64)."""
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise InputError(
                f"ordering: column {missing[0]!r} is missing from {table.column_names}; "
                f"needed: {', '.join(COLUMNS)}"
            )
        table = table.sort_by("rank")
        ranks = table["rank"].to_numpy()
        if not np.array_equal(ranks, np.arange(len(ranks))):
            raise InputError("ordering: ranks must be 0, 1, 2, ... without gaps")
        index, score, query = (table[name].to_numpy() for name in ("index", "score", "query"))
        selector = (table.schema.metadata or {}).get(b"selector", b"").decode()
        return cls(index, score, query, selector)


class Extent(NamedTuple):
    """The lowest and the highest score of each query, (M,); NaN for a query that has a NaN."""

    lowest_M: Scores
    highest_M: Scores

    @classmethod
    def of(cls, scores_MN: Scores) -> Extent:
        """Return the extent of scores, which are read once."""
        rows = [(row.min(), row.max()) for row in scores_MN]
        lowest, highest = zip(*rows, strict=True)
        return cls(np.array(lowest), np.array(highest))

    @classmethod
    def merged(cls, parts: Sequence[Extent]) -> Extent:
        """Return the extent of all shards together."""
        return cls(
            np.min([part.lowest_M for part in parts], axis=0),
            np.max([part.highest_M for part in parts], axis=0),
        )

    @property
    def finite(self) -> bool:
        """Whether every score is finite."""
        return bool(np.isfinite(self.lowest_M).all() and np.isfinite(self.highest_M).all())

    def rows(self, queries: Sequence[int]) -> Extent:
        """Return the extent of these rows."""
        chosen = list(queries)
        return Extent(self.lowest_M[chosen], self.highest_M[chosen])


class NonFinite(NamedTuple):
    """The place of a score that cannot be ranked, ordered by query, then candidate."""

    query: int
    candidate: int
    value: float


def first_non_finite(scores_MN: Scores, offset: int = 0) -> NonFinite | None:
    """Return the first NaN or infinity, row by row; candidates are counted from `offset`."""
    for query, row in enumerate(scores_MN):
        finite = np.isfinite(row)
        if not finite.all():
            column = int(np.argmin(finite))
            return NonFinite(query, offset + column, float(row[column]))
    return None


def require_finite(score: NonFinite | None) -> None:
    """Raise InputError, naming the score, if `first_non_finite` returned one.

    Infinities are refused like NaN: they come from a broken feature, and a candidate that must
    not be chosen belongs outside the pool.
    """
    if score is not None:
        value = str(score.value).replace("nan", "NaN")
        raise InputError(
            f"scores: {value} for query {score.query}, candidate {score.candidate}: every score "
            "must be finite; recompute that feature or drop the row"
        )


def checked_shape(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """Return (M, N), or raise InputError unless it is a non-empty float32 or float64 matrix."""
    if len(shape) != 2:
        raise InputError(
            f"scores: shape {shape} has {len(shape)} dimension(s); "
            "expected 2 (queries x candidates)"
        )
    if dtype.kind != "f" or dtype.itemsize not in (4, 8):
        raise InputError(
            f"scores: type {dtype} is not float32 or float64, or what becomes it (float16, bfloat16, integers); convert it first"
        )
    if 0 in shape:
        raise InputError(
            f"scores: shape {shape} is empty; give at least one query (row) and candidate (column)"
        )
    return shape


def checked_budget(budget: int, candidates: int) -> int:
    """Return the budget as an int, or raise InputError unless 1 <= budget <= candidates."""
    try:
        number = operator.index(None if isinstance(budget, bool) else budget)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"budget {budget!r} is not a whole number of examples") from None
    if number < 1:
        raise InputError(f"budget {number} is too small; give at least 1 example")
    if number > candidates:
        raise InputError(
            f"budget {number} exceeds the pool of {candidates} usable candidates; "
            "lower the budget or enlarge the pool"
        )
    return number
