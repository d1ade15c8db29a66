"""The user's own files as methods: scores, features and orderings, checked and read by place or by row id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tis_ray.errors import InputError
from tis_ray.storage import local_file, place
from tis_ray.store.files import TableRow
from tis_ray.store.fingerprint import file_digest
from tis_ray.store.matrix_files import split_name
from tis_ray.store.score_matrix import open_scores

MOST_MISSING = 3
"""Ids that a message names."""


def content_digest(path: str, key: str) -> str:
    """Return a hash of a file's bytes. Raises InputError, naming the config key, if there is none."""
    file, name = split_name(path)
    digest = file_digest(_file(str(file), key))
    return digest if name is None else f"{digest}:{name}"


def check_matrix(path: str, key: str, queries: int, rows: int) -> None:
    """Raise InputError unless a file holds scores for so many queries and pool rows.

    A table may lack pool rows: they have no score then, and the quarantine lists them.
    """
    if _is_table(path):
        lengths = pc.list_value_length(
            _list_column(_table(path, key, "scores"), "scores", path, key)
        )
        if (most := pc.max(lengths).as_py() or 0) != queries:
            raise InputError(
                f"{key}: {path} has {most} scores in a row, but the study reads {queries} queries; give one "
                "score for each query"
            )
        return
    shape = _matrix(path, key).shape
    if shape != (queries, rows):
        raise InputError(
            f"{key}: {path} is {shape[0]} x {shape[1]}, but the study reads {queries} queries and {rows} "
            "pool rows; write one row for each query and one column for each pool row, or give a "
            ".parquet with `id` and `scores`"
        )


def check_ordering(path: str, key: str) -> None:
    """Raise InputError unless a file is a table of distinct `id`s, best first."""
    table = _table(path, key, None)
    _unique(table, path, key)
    if not table.num_rows:
        raise InputError(f"{key}: {path} has no rows; give the pool rows to train on, best first")
    if "score" in table.column_names:
        kind = table["score"].type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise InputError(
                f"{key}: {path}: `score` is of type {kind}; give numbers, or leave it out"
            )
    if "rank" in table.column_names:
        ranks = table["rank"].to_pylist()
        if ranks != sorted(ranks, key=lambda rank: (rank is None, rank)):
            raise InputError(
                f"{key}: {path} is not sorted by its `rank`; sort the rows, best first, or leave `rank` "
                "out"
            )


class GivenScores:
    """Scores looked up in a file; a `Scorer` of `tis_ray.representations`."""

    def __init__(
        self,
        path: str,
        key: str,
        pool: Iterable[TableRow],
        queries: Iterable[TableRow],
    ) -> None:
        self.unusable: dict[int, str] = {}
        rows_M = [row["row"] for row in queries]
        self.rows_N = [(row["row"], row["id"]) for row in pool]
        if not _is_table(path):
            scores_MN = _matrix(path, key)
            self._columns = lambda part: scores_MN[np.ix_(rows_M, [row for row, _ in part])]
            return
        table = _table(path, key, "scores")
        places = _unique(table, path, key)
        values_NM = _lists(table, "scores", path, key)
        if values_NM.shape[1] <= max(rows_M):
            raise InputError(
                f"{key}: {path} has {values_NM.shape[1]} scores in a row, but the study reads "
                f"{max(rows_M) + 1} queries; give one score for each query"
            )

        def columns(part: list[tuple[int, str]]) -> np.ndarray:
            scores_Mn = np.full((len(rows_M), len(part)), np.nan, np.float32)
            known = [(k, places[name]) for k, (_, name) in enumerate(part) if name in places]
            if known:
                here, there = map(list, zip(*known, strict=True))
                scores_Mn[:, here] = values_NM[there][:, rows_M].T
            return scores_Mn

        self._columns = columns

    def scores(self, start: int, stop: int) -> np.ndarray:
        """Return scores_MN of the pool rows from `start` to `stop`; NaN where the file has none."""
        return np.asarray(self._columns(self.rows_N[start:stop]), np.float32)


class GivenVectors:
    """Vectors looked up in a file, by place or by id.

    rows: how many rows the side has, which a matrix must match; None does not check.
    """

    def __init__(self, path: str, key: str, rows: int | None = None) -> None:
        self.places: dict[str, int] | None = None
        if _is_table(path):
            table = _table(path, key, "features")
            self.places = _unique(table, path, key)
            self.values_ND = _lists(table, "features", path, key)
        else:
            self.values_ND = _matrix(path, key)
            if rows is not None and len(self.values_ND) != rows:
                raise InputError(
                    f"{key}: {path} has {len(self.values_ND)} vectors, but the study reads {rows} rows; "
                    "give one vector for each row, or a .parquet with `id` and `features`"
                )

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.values_ND.shape[1])

    def of(self, rows: Sequence[TableRow]) -> tuple[np.ndarray, list[int]]:
        """Return the vectors of rows (E, D), zeros where there is none, and the positions of those."""
        if self.places is None:
            return np.asarray(self.values_ND[[row["row"] for row in rows]]), []
        values_ED = np.zeros((len(rows), self.width), self.values_ND.dtype)
        missing = []
        for position, row in enumerate(rows):
            place = self.places.get(row["id"])
            if place is None:
                missing.append(position)
            else:
                values_ED[position] = self.values_ND[place]
        return values_ED, missing


def read_ordering(
    path: str, key: str, row_of: Mapping[str, int], lost: Mapping[str, str]
) -> tuple[np.ndarray, list[float | None]]:
    """Return an ordering's pool rows, best first, and their scores.

    row_of: row number of each usable pool row by id. lost: why each other row is not usable. Rows of
    the file that the study does not use are an error, since training on others would go unnoticed.
    """
    table = _table(path, key, None)
    ids = list(_unique(table, path, key))
    missing = [name for name in ids if name not in row_of]
    if missing:
        reasons = (f"{name!r}: {lost.get(name, 'no such id')}" for name in missing[:MOST_MISSING])
        raise InputError(
            f"{key}: {path}: {len(missing)} of {len(ids)} ids are not usable rows of the pool "
            f"({', '.join(reasons)}{', ...' if len(missing) > MOST_MISSING else ''}); take them out "
            "of the file"
        )
    scores = table["score"].to_pylist() if "score" in table.column_names else [None] * len(ids)
    return np.array([row_of[name] for name in ids], np.int64), scores


def _is_table(path: str) -> bool:
    return path.endswith(".parquet")


def _file(path: str, key: str) -> Path:
    file = place(path)
    if not file.is_file():
        raise InputError(f"{key}: {path} is not a file; check the path")
    return local_file(file)


def _table(path: str, key: str, column: str | None) -> pa.Table:
    try:
        table = pq.read_table(_file(path, key))
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{key}: {path} cannot be read as Parquet ({reason})") from None
    for name in ("id", *([column] if column else [])):
        if name not in table.column_names:
            raise InputError(
                f"{key}: {path} has no column `{name}`; it has {', '.join(table.column_names)}"
            )
    return table


def _unique(table: pa.Table, path: str, key: str) -> dict[str, int]:
    """Return the place of each id. Raises InputError where one is given twice."""
    ids = [str(name) for name in table["id"].to_pylist()]
    places = {name: place for place, name in enumerate(ids)}
    if len(places) < len(ids):
        twice = next(name for place, name in enumerate(ids) if places[name] != place)
        raise InputError(f"{key}: {path}: id {twice!r} is given twice; keep one")
    return places


def _matrix(path: str, key: str) -> np.ndarray:
    """Return a matrix, NaN where it is masked. Raises InputError that names the config key."""
    _file(str(split_name(path)[0]), key)
    try:
        matrix = open_scores(path)
        return matrix.filled(np.nan) if isinstance(matrix, np.ma.MaskedArray) else matrix
    except InputError as error:
        raise InputError(
            f"{key}: {str(error).removeprefix('scores: ').removeprefix(f'{key}: ')}"
        ) from None


def _list_column(table: pa.Table, name: str, path: str, key: str) -> pa.ChunkedArray:
    """Return a column that holds lists."""
    kind = table[name].type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        raise InputError(
            f"{key}: {path}: `{name}` is of type {kind}; give a list of numbers in every row"
        )
    return table[name]


def _lists(table: pa.Table, name: str, path: str, key: str) -> np.ndarray:
    """Return a column of equally long lists as a matrix."""
    column = _list_column(table, name, path, key)
    lengths = set(pc.list_value_length(column).to_pylist())
    if len(lengths) != 1 or None in lengths:
        raise InputError(
            f"{key}: {path}: `{name}` does not have the same number of values in every row"
        )
    return np.stack([np.asarray(value, np.float32) for value in column.to_pylist()])
