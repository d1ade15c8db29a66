"""From an ordering to subsets: the study's budgets, filled under its constraints.

An ordering is computed only as far as it is needed: first as long as the largest budget, then
twice as long until the budgets are full or it holds every candidate. Which rows are taken does not
depend on that, since a shorter ordering is the beginning of a longer one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from tis_ray.config import Config
from tis_ray.errors import InputError
from tis_ray.selectors.constraints import EVERY_OTHER, Filled, Limits, Spacing, fill_budgets
from tis_ray.store import read_ids
from tis_ray.store.sides import Side


class RowFeatures(Protocol):
    """Features of pool rows, for the near-duplicate radius."""

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return unit vectors (n, D) of pool rows."""
        ...


class Constrainer:
    """Takes rows from orderings until each budget of the study is full."""

    def __init__(self, config: Config, pool: Side) -> None:
        self.config, self.pool = config, pool
        settings = config.constraints
        self.limits = Limits(settings.cap, settings.quota)
        self._check_sources()
        self.included = self._included()

    @property
    def identity(self) -> dict[str, object]:
        """What decides a subset beside its ordering, for fingerprints."""
        settings = self.config.constraints.model_dump(mode="json", exclude={"include", "exclude"})
        return {
            "budgets": list(self.config.budget),
            "unit": self.config.budget_unit,
            "include": self.included.tolist(),
            **settings,
        }

    @property
    def rows(self) -> np.ndarray:
        """(N,) the usable pool rows, ascending."""
        return self.pool.usable_rows.rows_N

    def fill(
        self,
        ranked: Callable[[int], np.ndarray],
        candidates: int,
        features: RowFeatures | None = None,
    ) -> tuple[np.ndarray, list[Filled]]:
        """Return the rows of the largest budget, best first, and what each budget came to.

        ranked: gives the first pool rows of an ordering of so many `candidates`.
        features: for the radius, which does without where they are None.
        """
        length = self._first_length(candidates)
        while True:
            rows = ranked(length)
            rows = np.concatenate([self.included, rows[~np.isin(rows, self.included)]])
            spacing = self._spacing(rows, features)
            facts = self.pool.usable_rows
            filled = fill_budgets(
                self.config.budget,
                facts.sources_of(rows),
                self._sizes[facts.places(rows)].tolist(),
                self.limits,
                unit=self.config.budget_unit,
                forced=len(self.included),
                spacing=spacing,
                complete=length == candidates,
            )
            if filled is not None:
                return rows[filled[0]], filled[1]
            length = min(2 * length, candidates)

    def _spacing(self, rows: np.ndarray, features: RowFeatures | None) -> Spacing | None:
        radius = self.config.constraints.radius
        if radius is None or features is None:
            return None
        return Spacing(lambda places: features.of_rows(rows[places]), radius)

    def _first_length(self, candidates: int) -> int:
        most = max(self.config.budget)
        if self.config.budget_unit == "tokens":
            most = math.ceil(1.2 * most / float(self._sizes.mean())) + 1
        return min(most, candidates)

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Return the sizes of the usable rows in the budget's unit."""
        facts = self.pool.usable_rows
        in_tokens = self.config.budget_unit == "tokens"
        return facts.tokens_N if in_tokens else np.ones(len(facts), np.int32)

    def _check_sources(self) -> None:
        for field in ("cap", "quota"):
            for name in getattr(self.limits, field):
                if name == EVERY_OTHER and field == "cap":
                    continue
                known_name(
                    name,
                    self.pool.usable_rows.sources,
                    f"constraints.{field}",
                    "a source of the pool",
                )

    def _included(self) -> np.ndarray:
        """Return the rows that must be in, in pool order."""
        ids = read_ids(self.config.constraints.include, "constraints.include")
        if not ids:
            return np.zeros(0, np.int64)
        row_of: dict[str, int] = {}
        for shard in range(self.pool.shards):
            part = self.pool.token_table(shard, ["row", "id"]).to_pydict()
            pairs = zip(part["id"], part["row"], strict=True)
            row_of |= {name: row for name, row in pairs if name in ids}
        if missing := sorted(ids - set(row_of)):
            lost = {row["id"]: row["reason"] for row in self.pool.quarantined()}
            why = lost.get(missing[0])
            raise InputError(
                f"constraints.include: {missing[0]!r} "
                + (
                    f"cannot be used ({why})"
                    if why
                    else "is not the id of a pool row; check the spelling"
                )
                + (f"; so are {len(missing) - 1} more ids" if len(missing) > 1 else "")
            )
        return np.sort(np.array(list(row_of.values()), dtype=np.int64))


def known_name(name: str, known: Sequence[str], field: str, what: str) -> None:
    """Raise InputError unless the name is known; it lists some that are, or the nearest."""
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known[:8])}"
    raise InputError(f"{field}: {name!r} is not {what}; {advice}")


def random_fill(constrainer: Constrainer, seed: int) -> tuple[np.ndarray, list[Filled]]:
    """Return the rows that a seed draws, in their order, and what each budget came to, under the constraints."""
    shuffled_N = np.random.default_rng(seed).permutation(constrainer.rows)
    return constrainer.fill(lambda count: shuffled_N[:count], len(shuffled_N))
