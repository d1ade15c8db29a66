"""Sections on the subset: overlaps that are kept out, constraints, and the distance quantiles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tis_ray.section import Section
from tis_ray.settings.data import TaskConfig


class OverlapConfig(Section):
    """The overlap guard: finds pool rows that repeat query or test rows, before anything is selected."""

    test: Literal["drop", "keep"] = "drop"
    """What happens to pool rows that repeat a test row: dropped ones go to the quarantine."""
    query: Literal["drop", "keep"] = "keep"
    """The same for pool rows that repeat a query. They are reported either way."""
    pool: Literal["keep", "equal", "near"] = "keep"
    """Pool rows that repeat an earlier row of the pool: kept, or dropped if they are `equal` to it, or
    if they are `near` it: half of their words are in runs that it has too."""
    ngram: int = Field(8, ge=5)
    """Words in a run. A row overlaps if it has, in such runs, half of a target's words."""
    threshold: float = Field(0.5, gt=0, le=1)
    """The share of a target's words that makes an overlap."""
    embedding: float | None = Field(None, gt=0, le=1)
    """Cosine (of `embed.model`) from which rows overlap, such as 0.95; null compares no embeddings,
    which would read the whole pool with the encoder."""
    also: list[TaskConfig] = []
    """Query and test rows of other tasks that the pool is not to repeat either. The studies of `tasks`
    have each other's here, so that all of them select from one pool."""


def _ids(value: object) -> object:
    """Read numbers as ids; what else is no text (`yes`, which YAML reads as true) is refused later."""
    if not isinstance(value, list | tuple):
        return value
    return [str(name) if type(name) in (int, float) else name for name in value]


def _amounts(values: dict[str, float]) -> dict[str, float]:
    for source, amount in values.items():
        if amount < 0 or (amount > 1 and amount != int(amount)):
            raise ValueError(
                f"{source}: found {amount:g}; give a whole amount, or a share below 1 of the budget"
            )
    return values


Amounts = Annotated[dict[str, float], AfterValidator(_amounts)]


Weights = dict[str, Annotated[float, Field(gt=0)]]


class ConstraintsConfig(Section):
    """Conditions on every subset, random ones too. Caps and quotas count in the budget's unit."""

    include: Annotated[list[str] | str, BeforeValidator(_ids)] = []
    """Ids of pool rows that every subset must have, or a file with one id a line."""
    exclude: Annotated[list[str] | str, BeforeValidator(_ids)] = []
    """Ids of pool rows that are not to be used for anything, or a file with one id a line."""
    cap: Amounts = {}
    """Most of a budget that a source may have: `{flan: 0.3, code: 200}`; `*` is every other source."""
    quota: Amounts = {}
    """Least of a budget that a source must have, in the same form."""
    radius: float | None = Field(None, gt=0, le=2)
    """Leave out rows whose cosine with a better-ranked one, in the representation's features, is
    1 - radius or more (0.05 is a good start). Random subsets have no features, and no radius."""
    query_weights: Weights = {}
    """Weight of a query, by its id or its source; 1 if it is not named. Queries of weight 2 pull twice
    as much."""
    targets: Weights = {}
    """Several target tasks at once: each query source and its share of the budget. Each task selects
    by itself, and they take turns. Empty: all queries are one task."""


class QuantilesConfig(Section):
    """The paper's distance quantiles: does training on nearer rows help more? Round robin orders the
    whole pool, and a model is trained on the beginning of each part of it."""

    bins: int = Field(10, ge=2)
    """Parts of equal size."""
    rows: int = Field(500, ge=1)
    """First rows of each that are trained on."""
    focus: bool = False
    """Cut the first part again into as many."""


class DrawsConfig(Section):
    """Selecting anew, several times, from a part of the pool and other queries: what tells a good method
    from a lucky subset. Each draw is one more training for each method and budget; features and
    scores are there already."""

    count: int = Field(ge=2)
    """How many draws. The training seeds take turns."""
    pool: Literal["halves", "folds", "whole"] = "halves"
    """What a draw selects from: a half of the pool at random, its own of `count` equal parts, or all of it."""
    queries: Literal["bootstrap", "whole"] = "bootstrap"
    """What steers it: as many queries, drawn with replacement, or the queries as they are."""

    @model_validator(mode="after")
    def _varies(self) -> DrawsConfig:
        if self.pool == "whole" and self.queries == "whole":
            raise ValueError(
                "every draw would select the same: vary the pool (halves, folds) or the queries (bootstrap)"
            )
        return self

    @property
    def apart(self) -> bool:
        """Whether no two draws share anything that varies, so that they are independent."""
        return self.pool == "folds" and self.queries == "whole"


def as_draws(value: object) -> object:
    """Read a number as how many draws; 0 is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"count": value} if value else None
    return value
