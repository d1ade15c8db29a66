"""Score matrices on disk: a `scores-*` artifact, read by columns or in blocks, or one .npy file.

Files are opened when they are read and closed again: a large pool has more of them than a process
may hold open. Nothing here needs Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from tis_ray.errors import InputError
from tis_ray.selectors.ordering import Scores, checked_shape
from tis_ray.storage import Place, listed
from tis_ray.store.files import read_npy
from tis_ray.store.matrix_files import open_matrix

BLOCK_VALUES = 1 << 24
"""Scores in memory at once while all of them are read: 64 MiB of float32."""


class ScoreMatrix:
    """`scores_MN` on disk.

    files: the column shards in order. starts: the first column of each, and N at the end.
    columns_N, queries_M: row numbers of pool and query set, ascending.
    """

    def __init__(self, folder: Place) -> None:
        self.columns_N: np.ndarray = read_npy(folder / "columns.npy")
        self.queries_M: np.ndarray = read_npy(folder / "queries.npy")
        self.files = listed(folder, "scores-*.npy")
        shapes = [read_npy(path, mapped=True).shape for path in self.files]
        self.starts = np.cumsum([0, *(columns for _, columns in shapes)])

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return the columns of these pool rows, in their order; rows without a score are left out."""
        places = np.minimum(np.searchsorted(self.columns_N, rows), len(self.columns_N) - 1)
        return places[self.columns_N[places] == rows]

    def read(self, places: np.ndarray, queries: slice = slice(None)) -> np.ndarray:
        """Return these columns of all queries, or of some: (M, n). No other columns are read."""
        owners = np.searchsorted(self.starts, places, side="right") - 1
        rows = len(self.queries_M[queries])
        read_Mn = np.empty((rows, len(places)), np.float32)
        for owner in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == owner)
            scores_MN = read_npy(self.files[owner], mapped=True)
            read_Mn[:, mine] = scores_MN[queries, places[mine] - self.starts[owner]]
        return read_Mn

    def row(self, query: int) -> np.ndarray:
        """Return all candidates' scores (N,) for one query: a row of the matrix."""
        parts = [np.asarray(read_npy(path, mapped=True)[query]) for path in self.files]
        return np.concatenate(parts)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all columns in order: the first one's number, and a block (M, n)."""
        width = max(1, BLOCK_VALUES // len(self.queries_M))
        for path, first in zip(self.files, self.starts.tolist(), strict=False):
            scores_MN = read_npy(path, mapped=True)
            for start in range(0, scores_MN.shape[1], width):
                yield first + start, np.asarray(scores_MN[:, start : start + width])


def open_scores(path: str | os.PathLike[str]) -> Scores:
    """Return the (M, N) matrix of a file (`matrix_files.open_matrix`); an .npy is memory-mapped.

    A masked array where the file has a mask. Raises InputError, naming the file, when it is missing or
    holds something else.
    """
    try:
        scores_MN: Scores = open_matrix(path)
    except InputError as error:
        raise InputError(f"scores: {error}") from None
    try:
        checked_shape(scores_MN.shape, scores_MN.dtype)
    except InputError as error:
        raise InputError(f"{error} (in {os.fspath(path)})") from None
    return scores_MN
