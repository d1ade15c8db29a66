"""What is kept in memory of every usable row of a side: its number, its source and its lengths, 20 bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

COLUMNS = ("row", "source", "tokens", "response_tokens")
"""Of `tokens-*`."""


@dataclass(frozen=True)
class UsableRows:
    """The usable rows of a side in order, (N,) each.

    rows_N: their numbers, ascending. codes_N: their sources, by the place in `sources`, which has each once in
    the order in which they appear. tokens_N, responses_N: tokens of the rows, and of their responses.
    """

    rows_N: np.ndarray
    codes_N: np.ndarray
    sources: list[str]
    tokens_N: np.ndarray
    responses_N: np.ndarray

    @classmethod
    def of(cls, tables: Iterable[pa.Table], count: int) -> UsableRows:
        """Read tables with COLUMNS, one after the other, that have `count` rows in all."""
        known: dict[str, int] = {}
        rows_N = np.empty(count, np.int64)
        codes_N, tokens_N, responses_N = (np.empty(count, np.int32) for _ in range(3))
        end = 0
        for table in tables:
            begin, end = end, end + table.num_rows
            coded = table["source"].combine_chunks().dictionary_encode()
            names = coded.dictionary.to_pylist()
            numbers = np.array([known.setdefault(name, len(known)) for name in names], np.int32)
            rows_N[begin:end] = table["row"].to_numpy()
            codes_N[begin:end] = numbers[coded.indices.to_numpy()]
            tokens_N[begin:end] = table["tokens"].to_numpy()
            responses_N[begin:end] = table["response_tokens"].to_numpy()
        if end != count:
            raise ValueError(f"{end} rows were read, and {count} were expected")
        return cls(rows_N, codes_N, list(known), tokens_N, responses_N)

    def __len__(self) -> int:
        return len(self.rows_N)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return where usable rows stand among all, by their numbers."""
        return np.searchsorted(self.rows_N, rows)

    def sources_of(self, rows: np.ndarray) -> list[str]:
        """Return the sources of usable rows, by their numbers."""
        return [self.sources[code] for code in self.codes_N[self.places(rows)].tolist()]

    def counts(self) -> dict[str, int]:
        """Return how many rows each source has."""
        counts = np.bincount(self.codes_N, minlength=len(self.sources)).tolist()
        return dict(zip(self.sources, counts, strict=True))
