"""A representation with scores only: the number of words that a row shares with a query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from tis_ray.representations import Representation
from tis_ray.settings import Section


class SharedWordsSettings(Section):
    """Settings of `shared_words`."""

    shortest: int = Field(1, ge=1)
    """Letters that a word must have."""


def _words(row: dict[str, Any], shortest: int) -> set[str]:
    text = " ".join(turn["content"] for turn in row["messages"])
    return {word for word in text.lower().split() if len(word) >= shortest}


class SharedWords:
    """Holds the words of all rows."""

    def __init__(self, pool: list[set[str]], queries: list[set[str]]) -> None:
        self.pool, self.queries = pool, queries
        self.unusable = {i: "no_word" for i, words in enumerate(queries) if not words}

    def scores(self, start: int, stop: int) -> np.ndarray:
        """Return scores_MN of some pool rows."""
        part = self.pool[start:stop]
        return np.array([[len(q & p) for p in part] for q in self.queries], np.float32).reshape(
            len(self.queries), len(part)
        )


@dataclass(frozen=True, kw_only=True)
class _SharedWords(Representation):
    def scorer(
        self,
        settings: SharedWordsSettings,
        pool: Iterable[dict[str, Any]],
        queries: Iterable[dict[str, Any]],
    ) -> SharedWords:
        return SharedWords(
            [_words(row, settings.shortest) for row in pool],
            [_words(row, settings.shortest) for row in queries],
        )


SHARED_WORDS = _SharedWords(
    name="shared_words",
    label="Shared words",
    version=1,
    summary="the number of words in common",
    Settings=SharedWordsSettings,
    reads="text",
    gives="scores",
    cosines=False,
    made_of="words",
)
