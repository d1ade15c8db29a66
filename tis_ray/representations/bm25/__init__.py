"""The spec of BM25: words in common, weighted by rarity; the lexical baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from tis_ray.representations.spec import Representation, Scorer
from tis_ray.section import Section

if TYPE_CHECKING:
    from tis_ray.data import StoredRow


class Bm25Settings(Section):
    """BM25: words in common, weighted by rarity. Cheap, and often a hard baseline to beat."""

    k1: float = Field(1.5, ge=0)
    """How soon repetitions of a word stop counting."""
    b: float = Field(0.75, ge=0, le=1)
    """How much long rows are discounted."""


@dataclass(frozen=True, kw_only=True)
class _Bm25(Representation[Bm25Settings]):
    def scorer(
        self,
        settings: Bm25Settings,
        pool: Iterable[StoredRow],
        queries: Iterable[StoredRow],
    ) -> Scorer:
        from tis_ray.representations.bm25.index import Bm25, dialogue_text

        return Bm25(
            (dialogue_text(row["messages"], "pool") for row in pool),
            (dialogue_text(row["messages"], "query") for row in queries),
            settings,
        )


REPRESENTATION = _Bm25(
    name="bm25",
    label="BM25",
    summary="words in common, weighted by rarity; no model",
    Settings=Bm25Settings,
    reads="text",
    gives="scores",
    cosines=False,
    made_of="words",
)
