"""A method that is files: scores, features or an ordering made elsewhere."""

from __future__ import annotations

from pydantic import Field, model_validator

from tis_ray.section import Section


class GivenConfig(Section):
    """One method from files: matrices (.npy, .npz, .pt, .safetensors), or .parquet tables with an `id` column."""

    scores: str | None = Field(None, min_length=1)
    """Scores of every query (row) with every pool row (column); in a table, a list
    `scores` for each pool row."""
    features: str | None = Field(None, min_length=1)
    """A vector for each pool row, (N, D); in a table, a list `features`. `queries` goes with it."""
    queries: str | None = Field(None, min_length=1)
    """The same for each query, (M, D)."""
    ordering: str | None = Field(None, min_length=1)
    """A table with the pool rows to train on, best first: their `id`, and their `score` if there is one."""
    label: str = ""
    """Its name on pages; by default the name it has here."""
    cosines: bool = False
    """Whether `scores` are cosines, so that they give distances. Those of features always are."""

    @model_validator(mode="after")
    def _one_kind(self) -> GivenConfig:
        kinds = [self.scores, self.features, self.ordering]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give one of `scores`, `features` (with `queries`) and `ordering`")
        if (self.features is None) != (self.queries is None):
            raise ValueError("`features` (of the pool) and `queries` go together; give both")
        return self

    def paths(self) -> dict[str, str]:
        """Return its files by what they hold."""
        kinds = ("scores", "features", "queries", "ordering")
        return {kind: path for kind in kinds if (path := getattr(self, kind)) is not None}
