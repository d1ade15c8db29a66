"""The spec of a representation, the registry of representations, and what they make of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol

import numpy as np
from typing_extensions import TypeVar

from tis_ray.errors import InputError
from tis_ray.methods import Method, Methods
from tis_ray.section import Section
from tis_ray.settings.model import BatchConfig, LoraConfig, ModelConfig
from tis_ray.settings.training import TrainingConfig
from tis_ray.storage import Place

if TYPE_CHECKING:
    from tis_ray.data import StoredRow

LENGTH_TOLERANCE = 1e-2
"""How far from 1 the length of a vector from outside may be; float16 needs most of it."""

S = TypeVar("S", bound=Section, default=Any)
"""A representation's own settings. A study, which knows them only by name, leaves them open."""


TAKEN_COLUMNS = {"row", "id", "values"}
"""Columns of stored features that no fact about a row may replace."""


@dataclass(frozen=True)
class Features:
    """Features of E rows: one vector for each of C checkpoints (C = 1 without checkpoints)."""

    values_ECK: np.ndarray
    """(E, C, K) float32; each (K,) vector has length 1, or is zero for a row in `unusable`."""
    unusable: dict[int, str]
    """The reason why a row has no feature, by the row's position."""
    columns: dict[str, np.ndarray]
    """Facts about each row, (E,) or (E, C): losses, norms, truncation."""

    def checked(self, rows: int, name: str) -> Features:
        """Return itself, or raise InputError if it is not as described above, for this many rows.

        Vectors of another length would go unnoticed: their products can be ranked, but are not cosines.
        """
        values_ECK = np.asarray(self.values_ECK)
        shape = values_ECK.shape
        if len(shape) != 3 or shape[0] != rows:
            raise InputError(
                f"{name}: features have shape {shape} for {rows} rows; give (rows, checkpoints, width), "
                "with 1 in the middle if there are no checkpoints"
            )
        if taken := TAKEN_COLUMNS & set(self.columns):
            raise InputError(
                f"{name}: a column of features is called {min(taken)!r}, which names the row itself; "
                "rename it"
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


class ExactScores(NamedTuple):
    """Scores of E candidates, and facts about them as in `Features`."""

    scores_ME: np.ndarray
    unusable: dict[int, str]
    columns: dict[str, np.ndarray]


class Featuriser(Protocol):
    """Makes vectors. Built once per process; knows nothing about Ray or where rows are stored."""

    def features(self, rows: list[StoredRow], side: str) -> Features:
        """Return the features of encoded `rows`; `side` is "pool" or "query".

        A row has `row` (its number), `id`, `source`, `input_ids`, `labels`, `response_tokens`, and
        `text` if the representation reads text.
        """
        ...


class Scorer(Protocol):
    """Makes scores without vectors, of the whole pool, in one process."""

    unusable: dict[int, str]
    """The reason why a query carries no information, by its position; its scores are not used."""

    def scores(self, start: int, stop: int) -> np.ndarray:
        """Return scores_MN (M, stop - start) float32 of the pool rows from `start` up to `stop`.

        For all queries, and finite; NaN in a column means that the pool row has no score.
        """
        ...


class ExactScorer(Protocol):
    """Scores pool rows without a projection."""

    unusable: dict[int, str]
    """The reason why a query has no direction, by its position; it has no row in the scores."""

    def scores(self, rows: list[StoredRow]) -> ExactScores:
        """Return the scores of pool rows, with a row for each usable query."""
        ...


@dataclass(frozen=True)
class Build(Generic[S]):
    """What a representation is built from; small, and the same in every process."""

    settings: S
    model: ModelConfig
    batch: BatchConfig
    device: str
    checkpoints: tuple[Place, ...] = ()


class GivenFolder(NamedTuple):
    """A folder that the config names, and the key it stands under, for messages."""

    path: str
    field: str


@dataclass(frozen=True)
class Warmup:
    """Where the checkpoints come from that a representation takes gradients at.

    They are trained on a random share of the pool; or they are given; or, with no epochs, there is one,
    the adapters as they begin.
    """

    lora: LoraConfig
    training: TrainingConfig
    share: float
    min_rows: int
    seed: int
    moments: bool
    """Whether Adam's moments are needed. Checkpoints without any get them from the same share of the pool."""
    checkpoints: GivenFolder | None
    """An earlier warm-up, or the checkpoints of a `Trainer`."""
    adapter: GivenFolder | None
    """A PEFT folder, the one checkpoint."""
    section: str
    """Config key of the representation's settings, for messages."""

    @property
    def given(self) -> GivenFolder | None:
        """The folder that the checkpoints are read from; None if they are made here."""
        return self.adapter or self.checkpoints

    @property
    def trains(self) -> bool:
        """Whether anything is trained."""
        return self.given is None and self.training.epochs > 0

    @property
    def passes(self) -> int:
        """At how many checkpoints features are made, as far as the config says."""
        return 1 if self.adapter else max(1, self.training.epochs)


@dataclass(frozen=True)
class Cascade:
    """A cheap representation keeps the best part of the pool; the expensive one ranks only that."""

    by: str
    """The cheap representation."""
    keep: float
    """Share of the pool that is kept."""
    sample: int
    """Rows of the whole pool that the expensive one ranks too, to measure what is lost."""
    seed: int
    field: str
    """Config key, for messages."""


@dataclass(frozen=True, kw_only=True)
class Representation(Method, Generic[S]):
    """How an example becomes a feature, or is scored.

    reads: whether it reads a row's tokens or its text. gives: vectors, whose cosines are the scores,
    or scores directly. cosines: whether scores are cosines, so that 1 - score is a distance.
    halves: whether vectors are sketches, whose two halves show the noise of their scores.
    prior: whether the paper prefers it, for when a pilot is inconclusive. made_of: what its scores are
    made from, if it has no vectors.

    Subclasses override `build` or `scorer`, and those other methods whose defaults do not fit.
    """

    reads: Literal["tokens", "text"] = "tokens"
    gives: Literal["vectors", "scores", "ordering"] = "vectors"
    cosines: bool = True
    halves: bool = False
    prior: bool = False
    made_of: str = ""

    def build(self, build: Build[S]) -> Featuriser:
        """Return the maker of vectors, with what it needs loaded. Import torch here, not above."""
        raise NotImplementedError(f"representation {self.name} gives {self.gives}")

    def scorer(
        self,
        settings: S,
        pool: Iterable[StoredRow],
        queries: Iterable[StoredRow],
    ) -> Scorer:
        """Return the scorer of a pool; rows have `row`, `id`, `source` and `messages`, in order."""
        raise NotImplementedError(f"representation {self.name} gives {self.gives}")

    def exact(
        self, build: Build[S], queries: list[StoredRow], weights_C: np.ndarray
    ) -> ExactScorer:
        """Return the scorer without a projection, for a `scoring` of "exact"."""
        raise NotImplementedError(f"representation {self.name} has no exact scores")

    def check(self, settings: S, rows: Mapping[str, int]) -> None:
        """Raise InputError for problems that can be seen before any work is done.

        rows: how many rows of each side ("pool", "query") were read.
        """

    def space(self, settings: S) -> dict[str, object]:
        """Return what determines a row's vector, besides the model; names the store of features."""
        hidden = {*self.speed_only, "model", "dtype"}
        return settings.model_dump(mode="json", exclude=hidden)

    def model(self, settings: S) -> ModelConfig | None:
        """Return the model that reads the rows, if it is not the one that is fine-tuned."""
        own = getattr(settings, "model", None)
        return own if isinstance(own, ModelConfig) else None

    def width(self, settings: S, hidden: int) -> int | None:
        """Return how many numbers a vector has, where that is known before one is made, else None.

        hidden: the width of the model that reads the rows. A dry run asks, where that model cannot be run.
        """
        return None

    def dtype(self, settings: S) -> str:
        """Return the type of stored pool features."""
        return str(getattr(settings, "dtype", "float32"))

    def scoring(self, settings: S) -> Literal["store", "stream", "exact"]:
        """Return whether vectors are kept, dropped after use, or never projected."""
        return "store"

    def cascade(self, settings: S) -> Cascade | None:
        """Return the cheap representation that comes before it, if there is one."""
        return None

    def warmup(self, settings: S) -> Warmup | None:
        """Return the training that comes before it, if there is one."""
        return None

    def weights(self, steps: list[dict[str, float]]) -> np.ndarray:
        """Return the weight of each checkpoint of the warm-up (C,), from its log of steps."""
        return np.ones(1)


@dataclass(frozen=True, kw_only=True)
class PlainRepresentation(Representation):
    """A plain class with `features(rows, side)`."""

    make: Callable[[Build], Featuriser]

    def build(self, build: Build) -> Featuriser:
        """Return an instance."""
        return self.make(build)


def as_representation(cls: object, name: str) -> Representation | None:
    """Return the representation that a class with `features(rows, side)` stands for, else None."""
    if isinstance(cls, type) and issubclass(cls, Representation):
        return cls(name=name.rpartition(".")[2].lower())
    if isinstance(cls, type) and callable(getattr(cls, "features", None)):
        return PlainRepresentation(
            name=getattr(cls, "name", name.rpartition(".")[2].lower()),
            label=getattr(cls, "label", ""),
            version=getattr(cls, "version", 1),
            summary=(cls.__doc__ or "").partition("\n")[0],
            Settings=getattr(cls, "Settings", Section),
            reads=getattr(cls, "reads", "tokens"),
            make=cls,
        )
    return None


REPRESENTATIONS: Methods[Representation] = Methods(
    "representation",
    "tis_ray.representations",
    Representation,
    as_representation,
    packages=True,
)
