"""What a representation tells of itself, and what it turns rows into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from tis_ray.errors import InputError
from tis_ray.methods import Method, Methods
from tis_ray.section import Section
from tis_ray.settings.model import BatchConfig, LoraConfig, ModelConfig, TrainingConfig

LENGTH_TOLERANCE = 1e-2
"""How far from 1 the length of a vector from outside may be, float16 allowed for."""


@dataclass(frozen=True)
class Features:
    """Features of E rows, one vector for each of C checkpoints (C = 1 without checkpoints)."""

    values_ECK: np.ndarray
    """(E, C, K) float32; each (K,) vector has length 1, or is zero for a row in `unusable`."""
    unusable: dict[int, str]
    """Position of each row without a feature, and why."""
    columns: dict[str, np.ndarray]
    """Facts about each row, (E,) or (E, C): losses, norms, truncation."""

    def checked(self, rows: int, name: str) -> Features:
        """Return itself, or raise InputError where it is not what is told here, of so many rows.

        Longer or shorter vectors would go unnoticed: their products rank, and are no cosines.
        """
        values_ECK = np.asarray(self.values_ECK)
        shape = values_ECK.shape
        if len(shape) != 3 or shape[0] != rows:
            raise InputError(
                f"{name}: features of shape {shape} for {rows} rows; give (rows, checkpoints, width), "
                "with 1 for the middle where there are no checkpoints"
            )
        used = np.setdiff1d(np.arange(rows), list(self.unusable))
        lengths_EC = np.linalg.norm(values_ECK[used], axis=2)
        bad = np.flatnonzero(~(np.abs(lengths_EC - 1) <= LENGTH_TOLERANCE).all(axis=1))
        if len(bad):
            raise InputError(
                f"{name}: the vector of row {used[bad[0]]} has length {lengths_EC[bad[0]].max():.4g}; "
                "scale vectors to length 1, and name rows without a feature in `unusable`"
            )
        return self


class Featuriser(Protocol):
    """Makes vectors. Built once per process; knows nothing of Ray or of where rows lie."""

    def features(self, rows: list[dict[str, Any]], side: str) -> Features:
        """Return the features of `rows`; side pool or query.

        A row has `row` (its number), `id`, `source`, `input_ids`, `labels`, `response_tokens`, and
        `text` if the representation reads text.
        """
        ...


class Scorer(Protocol):
    """Makes scores without vectors, of the whole pool, in one process."""

    unusable: dict[int, str]
    """Position of each query that says nothing, and why: it has no row in the scores."""

    def scores(self, start: int, stop: int) -> np.ndarray:
        """Return scores_MN (M, stop - start) float32 of the pool rows from `start` up to `stop`.

        All queries, finite; NaN in a column says that the pool row has no score.
        """
        ...


class ExactScorer(Protocol):
    """Scores pool rows without a projection."""

    unusable: dict[int, str]

    def scores(self, rows: list[dict[str, Any]]) -> Any:
        """Return `scores_ME`, `unusable` and `columns` of the rows."""
        ...


@dataclass(frozen=True)
class Build:
    """What a representation is built of; small, and the same in every process."""

    settings: Any
    model: ModelConfig
    batch: BatchConfig
    device: str
    checkpoints: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Warmup:
    """A training on a random share of the pool whose checkpoints a representation looks at."""

    lora: LoraConfig
    training: TrainingConfig
    share: float
    min_rows: int
    seed: int
    checkpoints: str | None
    """Folder of an earlier one, to be used instead."""
    field: str
    """Config key of that folder, for messages."""


@dataclass(frozen=True)
class Cascade:
    """A cheap representation that keeps the best part of the pool; the dear one looks at that alone."""

    by: str
    """The cheap one."""
    keep: float
    """Share of the pool that is kept."""
    sample: int
    """Rows of the whole pool that the dear one is given too, to measure what is lost."""
    seed: int
    field: str
    """Config key, for messages."""


@dataclass(frozen=True, kw_only=True)
class Representation(Method):
    """How an example becomes a feature, or is scored.

    reads: what a row is to it, tokens or text. gives: vectors, whose cosines are the scores, or
    scores at once. cosines: whether scores are cosines, so that 1 - score is a distance.
    halves: whether vectors are sketches, whose two halves tell the noise of their scores.
    prior: whether the paper prefers it where a pilot cannot tell. made_of: what its scores come from,
    where it has no vectors.

    Subclasses override `build` or `scorer`, and of the other methods what is not as here.
    """

    reads: Literal["tokens", "text"] = "tokens"
    gives: Literal["vectors", "scores", "ordering"] = "vectors"
    cosines: bool = True
    halves: bool = False
    prior: bool = False
    made_of: str = ""

    def build(self, build: Build) -> Featuriser:
        """Return what makes vectors of rows; loads what it needs. Imports torch here, not above."""
        raise NotImplementedError(f"representation {self.name} gives {self.gives}")

    def scorer(
        self,
        settings: Any,
        pool: Iterable[dict[str, Any]],
        queries: Iterable[dict[str, Any]],
    ) -> Scorer:
        """Return what scores the pool; rows have `row`, `id`, `source` and `messages`, in order."""
        raise NotImplementedError(f"representation {self.name} gives {self.gives}")

    def exact(
        self, build: Build, queries: list[dict[str, Any]], weights_C: np.ndarray
    ) -> ExactScorer:
        """Return what scores without a projection, for a `scoring` of "exact"."""
        raise NotImplementedError(f"representation {self.name} has no exact scores")

    def check(self, settings: Any, rows: Mapping[str, int]) -> None:
        """Raise InputError for what can be told before any work.

        rows: how many rows of each side ("pool", "query") were read.
        """

    def space(self, settings: Any) -> dict[str, Any]:
        """Return what, beside the model, decides a row's vector; names the store of features."""
        hidden = {*self.speed_only, "model", "dtype"}
        told: dict[str, Any] = settings.model_dump(mode="json", exclude=hidden)
        return told

    def model(self, settings: Any) -> ModelConfig | None:
        """Return the model that reads the rows, if it is not the one that is fine-tuned."""
        own = getattr(settings, "model", None)
        return own if isinstance(own, ModelConfig) else None

    def dtype(self, settings: Any) -> str:
        """Return the type of stored pool features."""
        return str(getattr(settings, "dtype", "float32"))

    def scoring(self, settings: Any) -> Literal["store", "stream", "exact"]:
        """Return whether vectors are kept, dropped after use, or never projected."""
        return "store"

    def cascade(self, settings: Any) -> Cascade | None:
        """Return the cheap representation that goes before it, if one does."""
        return None

    def warmup(self, settings: Any) -> Warmup | None:
        """Return the training that goes before it, if one does."""
        return None

    def weights(self, steps: list[dict[str, float]]) -> np.ndarray:
        """Return the weight of each checkpoint of the warm-up (C,), from its log of steps."""
        return np.ones(1)


@dataclass(frozen=True, kw_only=True)
class PlainRepresentation(Representation):
    """A class of one's own that has `features(rows, side)`."""

    make: Any = None

    def build(self, build: Build) -> Featuriser:
        """Return an instance."""
        made: Featuriser = self.make(build)
        return made


def as_representation(found: Any, name: str) -> Representation | None:
    """Return the representation that a class with `features(rows, side)` stands for."""
    if isinstance(found, type) and issubclass(found, Representation):
        return found(name=name.rpartition(".")[2].lower())
    if isinstance(found, type) and callable(getattr(found, "features", None)):
        return PlainRepresentation(
            name=getattr(found, "name", name.rpartition(".")[2].lower()),
            label=getattr(found, "label", ""),
            version=getattr(found, "version", 1),
            summary=(found.__doc__ or "").partition("\n")[0],
            Settings=getattr(found, "Settings", Section),
            reads=getattr(found, "reads", "tokens"),
            make=found,
        )
    return None


REPRESENTATIONS: Methods[Representation] = Methods(
    "representation",
    "tis_ray.representations",
    Representation,
    as_representation,
    packages=True,
)
