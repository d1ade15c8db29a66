"""Budgets with constraints (caps, quotas, spacing): which rows of an ordering are taken.

A selector ranks; constraints decide. Rows are considered from the best one on, and a row is taken
unless that would break a constraint. So any selector works with any constraint, without constraints
the ordering is unchanged, and as long as sizes are equal no other choice within caps and quotas
holds better-ranked rows (greedy is optimal on a matroid).

Several budgets are nested: the subset of a budget contains that of the next smaller one, and rows
that had to wait for room (a cap that is a share grows with its budget) are considered again first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tis_ray.errors import InputError
from tis_ray.selectors.ordering import Indices

EVERY_OTHER = "*"
"""Stands, in place of a source's name, for every source that is not named."""

_BLOCK = 256
_DUST = 1e-9  # 0.1 of 30 is 3, not 4
_ROUNDING = 1e-3  # of float32 products, whose last bits depend on the shape of a block


@dataclass(frozen=True)
class Limits:
    """How much of a budget each source may have (`cap`) and must have (`quota`).

    In the budget's unit; a number below 1 is a share of the budget, rounded down for caps and up for
    quotas.
    """

    cap: Mapping[str, float] = field(default_factory=dict)
    quota: Mapping[str, float] = field(default_factory=dict)

    def caps(self, source: str, budget: int) -> float:
        """Return the most that a source may have of a budget; infinity without a cap."""
        limit = self.cap.get(source, self.cap.get(EVERY_OTHER))
        if limit is None:
            return math.inf
        return math.floor(limit if limit >= 1 else limit * budget + _DUST)

    def quotas(self, budget: int) -> dict[str, int]:
        """Return the least that each source with a quota must have of a budget.

        Raises InputError for quotas that exceed the budget or a cap.
        """
        least = {s: math.ceil(q if q >= 1 else q * budget - _DUST) for s, q in self.quota.items()}
        if sum(least.values()) > budget:
            raise InputError(
                f"constraints.quota: {_listed(least)} add up to {sum(least.values()):,}, "
                f"{sum(least.values()) - budget:,} more than the budget of {budget:,}; "
                "lower a quota or raise the budget"
            )
        for source, quota in least.items():
            if quota > self.caps(source, budget):
                raise InputError(
                    f"constraints: at a budget of {budget:,} the quota of source {source!r} is "
                    f"{quota:,}, {quota - self.caps(source, budget):,} above its cap of "
                    f"{self.caps(source, budget):,}; lower the quota or raise the cap"
                )
        return least


@dataclass(frozen=True)
class Filled:
    """How one budget was filled.

    rows: how many of the taken rows make up its subset. amount: their sum, in the budget's unit.
    capped, near: rows skipped so far because their source was at its cap, or as near-duplicates.
    """

    budget: int
    rows: int
    amount: int
    capped: int
    near: int


class Spacing:
    """Keeps taken rows apart: a row is near if its cosine with a taken one is 1 - radius or more.

    Work grows with the square of the number of rows taken, memory with their features (float32).
    """

    def __init__(self, features: Callable[[Indices], np.ndarray], radius: float) -> None:
        """`features` must return the unit vectors (n, D) of places in the ordering."""
        self.features, self.threshold = features, 1 - radius
        self.taken: list[np.ndarray] = []
        self.places: dict[int, int] = {}
        self.near_n, self.near_nn = np.zeros(0, bool), np.zeros((0, 0), bool)
        self.block_nD = np.zeros((0, 0), np.float32)
        self.chosen: list[int] = []

    def near(self, place: int, following: Sequence[int]) -> bool:
        """Return whether a place is too near to a taken one; `following` lists likely next places."""
        if place not in self.places:
            self._load(np.array([place, *following[: _BLOCK - 1]]))
        n = self.places[place]
        return bool(self.near_n[n] or self.near_nn[n, self.chosen].any())

    def take(self, place: int, following: Sequence[int]) -> None:
        """Remember a taken place."""
        if place not in self.places:
            self._load(np.array([place, *following[: _BLOCK - 1]]))
        self.chosen.append(self.places[place])

    def _load(self, block: Indices) -> None:
        if self.chosen:
            self.taken.append(self.block_nD[self.chosen])
        self.chosen, self.places = [], {int(p): n for n, p in enumerate(block)}
        self.block_nD = self.features(block).astype(np.float32, copy=False)
        self.near_nn = self._close(self.block_nD)
        parts = [self._close(part_tD).any(axis=1) for part_tD in self.taken]
        self.near_n = np.any(parts, axis=0) if parts else np.zeros(len(block), bool)

    def _close(self, others_tD: np.ndarray) -> np.ndarray:
        """Return which rows of the block are near which others; the block makes no difference."""
        cosines_nt = self.block_nD @ others_tD.T
        close_nt: np.ndarray = cosines_nt >= self.threshold
        for n, t in np.argwhere(np.abs(cosines_nt - self.threshold) < _ROUNDING).tolist():
            exact = np.sum(self.block_nD[n].astype(np.float64) * others_tD[t])
            close_nt[n, t] = exact >= self.threshold
        return close_nt


def fill_budgets(
    budgets: Sequence[int],
    sources: Sequence[str],
    sizes: Sequence[int],
    limits: Limits | None = None,
    *,
    unit: str = "examples",
    forced: int = 0,
    spacing: Spacing | None = None,
    complete: bool = True,
) -> tuple[Indices, list[Filled]] | None:
    """Return the places that are taken, in order, and how each budget (ascending) was filled.

    sources, sizes: of the rows of an ordering, best first; `sizes` are ones, or tokens. A budget is
        full when the next row does not fit; with sizes of one, that is when it is used up.
    forced: how many places at the front must be taken; the radius does not apply among them.
    complete: whether the ordering holds every candidate. If not, and it is too short to fill the
        budgets, None is returned: call again with a longer one, which takes the same rows first.

    Raises InputError, saying which constraint is short and by how much, if no subset will do.
    """
    filler = _Filler(sources, sizes, limits or Limits(), unit, spacing)
    filler.force(forced, budgets[0])
    filled = []
    for budget in budgets:
        if not filler.fill(budget):
            if not complete:
                return None
            filler.refuse(budget)
        if not filler.taken:
            raise InputError(
                f"budget: {budget:,} {unit} are fewer than the {sizes[0]:,} of the best row; raise it"
            )
        filled.append(
            Filled(budget, len(filler.taken), filler.total, len(filler.capped), filler.near)
        )
    return np.array(filler.taken, dtype=np.int64), filled


class _Filler:
    def __init__(
        self,
        sources: Sequence[str],
        sizes: Sequence[int],
        limits: Limits,
        unit: str,
        spacing: Spacing | None,
    ) -> None:
        self.sources, self.sizes, self.limits = sources, sizes, limits
        self.unit, self.spacing = unit, spacing
        self.taken: list[int] = []
        self.waiting = list(range(len(sources)))
        self.capped: list[int] = []
        self.had: Counter[str] = Counter()
        self.need: dict[str, int] = {}
        self.total, self.near = 0, 0

    def force(self, count: int, budget: int) -> None:
        """Take the places that must be included."""
        for place in range(count):
            self._take(place, range(place + 1, count))
        self.waiting = self.waiting[count:]
        if self.total > budget:
            raise InputError(
                f"constraints.include: its {count:,} rows have {self.total:,} {self.unit}, "
                f"{self.total - budget:,} more than the budget of {budget:,}; shorten the list or "
                "raise the budget"
            )
        for source, had in self.had.items():
            if had > self.limits.caps(source, budget):
                raise InputError(
                    f"constraints: the rows of constraints.include have {had:,} {self.unit} of "
                    f"source {source!r}, {had - self.limits.caps(source, budget):,} above its cap "
                    f"of {self.limits.caps(source, budget):,} at a budget of {budget:,}; raise the "
                    "cap or shorten the list"
                )

    def fill(self, budget: int) -> bool:
        """Go through the waiting places; return whether the budget was filled."""
        quota = self.limits.quotas(budget)
        self.need = {s: max(0, q - self.had[s]) for s, q in quota.items()}
        waiting, self.waiting, self.capped = self.waiting, [], []
        for k, place in enumerate(waiting):
            source, size = self.sources[place], self.sizes[place]
            reserved = sum(self.need.values())
            if self.total == budget:
                self.waiting += waiting[k:]
                return True
            if self.had[source] + size > self.limits.caps(source, budget):
                self.waiting.append(place)
                self.capped.append(place)
                continue
            if self.total + size + reserved - min(self.need.get(source, 0), size) > budget:
                if not reserved:
                    self.waiting += waiting[k:]
                    return True
                self.waiting.append(place)
                continue
            following = waiting[k + 1 : k + _BLOCK]
            if self.spacing is not None and self.spacing.near(place, following):
                self.near += 1
                continue
            self._take(place, following)
        return self.total == budget

    def refuse(self, budget: int) -> None:
        """Raise the InputError that says what is missing."""
        short = {source: need for source, need in self.need.items() if need > 0}
        if short:
            had = {source: self.had[source] for source in short}
            raise InputError(
                f"constraints.quota: at a budget of {budget:,} {self.unit} the pool is short of "
                f"{_listed(short)} (it gives {_listed(had)}); lower the quota, or loosen what "
                "keeps those rows out"
            )
        over_cap = Counter(self.sources[place] for place in self.capped)
        reasons = [
            f"{n:,} rows of source {s!r} are over its cap" for s, n in over_cap.most_common(3)
        ]
        if self.near:
            reasons.append(f"{self.near:,} rows are near-duplicates of rows already taken")
        raise InputError(
            f"budget: {budget:,} {self.unit} cannot be reached: {self.total:,} can, "
            f"{budget - self.total:,} are missing"
            + (f" ({'; '.join(reasons)})" if reasons else "")
            + "; lower the budget"
            + (", or loosen the constraints" if reasons else " or enlarge the pool")
        )

    def _take(self, place: int, following: Sequence[int]) -> None:
        source, size = self.sources[place], self.sizes[place]
        self.taken.append(place)
        self.total += size
        self.had[source] += size
        if source in self.need:
            self.need[source] = max(0, self.need[source] - size)
        if self.spacing is not None:
            self.spacing.take(place, following)


def _listed(amounts: Mapping[str, int]) -> str:
    return ", ".join(f"{amount:,} of {source!r}" for source, amount in amounts.items())
