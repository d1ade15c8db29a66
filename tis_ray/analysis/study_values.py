"""`Method`, `Part`, `Cell` and `StageCost`: what a study leaves, as typed values.

They are made where something is measured and read wherever it is shown. `to_json` gives plain
values, `from_json` takes them back, and takes the flat dicts of the stages too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from tis_ray.methods import RANDOM, ZERO_SHOT

ZERO_SHOT_PLAIN = "zero_shot (no template)"
"""The untrained model on prompts that are the bare text."""

Kind = Literal[
    "screen",
    "tokens",
    "warm-up",
    "features",
    "scores",
    "kept",
    "ordering",
    "subsets",
    "search",
    "training",
    "distances",
]
"""What a stage makes. "kept" is the part of the pool that a cheap representation leaves to a dear one."""


@dataclass(frozen=True, order=True)
class Method:
    """A representation with a selector, or a representation alone; random and zero-shot are such too."""

    representation: str
    selector: str | None = None

    @property
    def is_random(self) -> bool:
        """Whether this is the random subset."""
        return self.representation == RANDOM

    @property
    def is_zero_shot(self) -> bool:
        """Whether this is the untrained model, with the template or without."""
        return self.representation in (ZERO_SHOT, ZERO_SHOT_PLAIN)

    @property
    def is_baseline(self) -> bool:
        """Whether methods are compared with this."""
        return self.is_random or self.is_zero_shot

    @property
    def asked(self) -> str:
        """The method as it is asked for: `less+round_robin`, `random`, `zero_shot`."""
        if self.selector is None or self == RANDOM_METHOD:
            return self.representation
        return f"{self.representation}+{self.selector}"

    def to_json(self) -> dict[str, str | None]:
        """Return the two names."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Method:
        """Read the two names from anything that has them."""
        return cls(str(content["representation"]), content.get("selector"))


RANDOM_METHOD = Method(RANDOM, RANDOM)


@dataclass(frozen=True)
class Part:
    """Some rows of a study: one of its sides, or what a method selects at a budget."""

    side: Literal["pool", "queries", ""] = ""
    method: Method | None = None
    budget: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the side, or the method's names and the budget."""
        if self.method is None:
            return {"side": self.side}
        return {**self.method.to_json(), "budget": self.budget}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Part:
        """Read what `to_json` gave; other keys are left aside."""
        if "side" in content:
            return cls(content["side"])
        return cls(method=Method.from_json(content), budget=int(content["budget"]))


POOL, QUERIES = Part("pool"), Part("queries")


@dataclass(frozen=True)
class Cell:
    """One training run, or the untrained model, and its metrics.

    metrics: losses in nats, shares from 0 to 1; None or NaN is a metric that is missing. Shares of
    unreadable answers stand among them (`metrics.description`).
    """

    method: Method
    budget: int = 0
    seed: int | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    quantile: tuple[int, ...] = ()
    """Of the distance-quantile experiment: (3,), or (1, 3) for a part of the first."""
    draw: int | None = None
    """Which time its method selected anew (`settings.DrawsConfig`); None for the study's own subset."""
    subset: dict[str, int] | None = None
    """What the budget came to: rows, amount (in the budget's unit), rows over a cap, near-duplicates."""
    train_rows: int | None = None
    train_tokens: int | None = None
    optimizer_steps: int | None = None
    seconds_train: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None
    model: str | None = None
    """What of the trained model is kept: "adapter", "model" or nothing."""
    fingerprint: str | None = None
    artifact: str | None = None
    rows: dict[str, list[float]] = field(default_factory=dict, repr=False)
    """Each row's value of the metrics that are means over rows: test rows, or queries for `query_loss`.
    Only `with_rows` writes them."""

    def to_json(self) -> dict[str, Any]:
        """Return one level of plain values: what names the cell, its facts, its metrics."""
        named = {**self.method.to_json(), "budget": self.budget, "seed": self.seed}
        facts = {name: getattr(self, name) for name in FACTS}
        known = {name: value for name, value in facts.items() if value not in (None, ())}
        if self.quantile:
            known["quantile"] = list(self.quantile)
        return {**named, **known, **self.metrics}

    def with_rows(self) -> dict[str, Any]:
        """Return the same with the rows' values: six digits, and a text of 0 and 1 where they are right or wrong."""
        if not self.rows:
            return self.to_json()
        return {**self.to_json(), "rows": {name: _short(v) for name, v in self.rows.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Cell:
        """Read a flat cell. Whatever is a number and not a fact of the run is a metric."""
        facts = {name: content[name] for name in FACTS if content.get(name) is not None}
        facts["quantile"] = tuple(facts.get("quantile", ()))
        rows = content.get("rows", {})
        return cls(
            rows={name: [float(value) for value in values] for name, values in rows.items()},
            method=Method.from_json(content),
            budget=int(content.get("budget") or 0),
            seed=content.get("seed"),
            metrics={
                name: value
                for name, value in content.items()
                if name not in _NAMES and (value is None or isinstance(value, int | float))
            },
            **facts,
        )


_NAMED = ("method", "budget", "seed", "metrics", "rows")
FACTS = [f.name for f in fields(Cell) if f.name not in _NAMED]
_NAMES = {"representation", "selector", "budget", "seed", "rows", *FACTS}


def _short(values: Sequence[float]) -> str | list[float]:
    if all(value in (0, 1) for value in values):
        return "".join(str(int(value)) for value in values)
    return [float(f"{value:.6g}") for value in values]


@dataclass(frozen=True)
class StageCost:
    """What one stage made and cost; `seconds` of a reused artifact are those of its first making.

    needed_by: representations and methods that cannot do without it; none for what random needs
    too, and for measurements. computed: of `rows`, those that were not in a store already.
    """

    stage: str
    """As it stands in lines for people."""
    kind: Kind
    artifact: str
    seconds: float
    reused: bool
    rows: int
    quarantined: int
    device: str = ""
    peak_mb: float = 0.0
    needed_by: tuple[Method, ...] = ()
    computed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "needed_by": [method.to_json() for method in self.needed_by]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StageCost:
        """Read what `to_json` gave."""
        needed_by = tuple(map(Method.from_json, content.get("needed_by", ())))
        return cls(**{**content, "needed_by": needed_by})
