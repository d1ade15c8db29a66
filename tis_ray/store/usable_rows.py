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
    def of(cls, tables: Iterable[pa.Table]) -> UsableRows:
        """Read tables with COLUMNS, one after the other."""
        known: dict[str, int] = {}
        parts: list[tuple[np.ndarray, ...]] = []
        for table in tables:
            coded = table["source"].combine_chunks().dictionary_encode()
            names = coded.dictionary.to_pylist()
            numbers = np.array([known.setdefault(name, len(known)) for name in names], np.int32)
            lengths = (table[name].to_numpy() for name in ("tokens", "response_tokens"))
            parts.append((table["row"].to_numpy(), numbers[coded.indices.to_numpy()], *lengths))
        rows_N, codes_N, tokens_N, responses_N = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
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
