"""Random with matched lengths: a baseline that shows how much of a subset's gain is only its lengths.

Gradient representations prefer short examples (paper, arXiv 2602.14696, appendix I), so a subset
may differ from a random one merely in its number of tokens. This baseline draws at random, but as
many examples of each length as the reference ordering has, at every budget: the k-th pick is a
random unused candidate from the length bin of the reference's k-th pick. Bins are quantiles of the
pool's lengths; when one is used up, the nearest that is not takes its place (the shorter of two).
That cannot happen if the reference is an ordering of the same pool, because a bin then has enough.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from tis_ray.errors import InputError
from tis_ray.section import Section
from tis_ray.selectors.ordering import Indices, Ordering
from tis_ray.selectors.protocol import Layout, Rounds
from tis_ray.selectors.spec import Selector
from tis_ray.selectors.uniform import checked_seed


def coordinate(
    layout: Layout,
    budget: int,
    *,
    lengths: ArrayLike,
    target: Ordering | ArrayLike,
    seed: int = 0,
    bins: int = 50,
) -> Rounds:
    """Return `budget` random candidates whose lengths follow the target's, prefix by prefix.

    The picks are a function of the parameters and N. Candidates score 0, and no query pulled them.

    lengths: (N,) length of each candidate, in response tokens.
    target: the ordering to match, or the lengths of its candidates, best first; at least `budget`.
    seed: of the draw. bins: the most length bins; equal lengths share one.
    """
    yield from ()
    lengths_N = _checked_lengths("lengths", lengths)
    if len(lengths_N) != layout.candidates:
        raise InputError(
            f"length_matched: {len(lengths_N)} lengths for {layout.candidates} candidates; "
            "give one for each"
        )
    if isinstance(target, Ordering):
        if len(target) and target.indices.max() >= layout.candidates:
            raise InputError(
                f"length_matched: the target contains candidate {target.indices.max()}, but the pool "
                f"has only {layout.candidates}; give an ordering of the same pool"
            )
        target_T = lengths_N[target.indices]
    else:
        target_T = _checked_lengths("target", target)
    if len(target_T) < budget:
        raise InputError(
            f"length_matched: budget {budget} exceeds the target's length of {len(target_T)}; "
            "give a longer target"
        )
    if bins < 1:
        raise InputError(f"length_matched: bins {bins} must be at least 1")

    edges = np.quantile(lengths_N, np.arange(1, bins) / bins, method="inverted_cdf")
    edges = np.unique(edges[edges > lengths_N.min()])
    shuffled = np.random.default_rng(checked_seed(seed)).permutation(layout.candidates)
    places = np.searchsorted(edges, lengths_N[shuffled], side="right")
    members = [shuffled[places == place] for place in range(len(edges) + 1)]
    wanted = np.searchsorted(edges, target_T[:budget], side="right")
    indices = _draw(members, wanted.tolist())
    return Ordering(
        indices, np.zeros(budget), np.full(budget, -1, dtype=np.int32), "length_matched"
    )


def _draw(members: list[Indices], wanted: list[int]) -> Indices:
    """Take the next member of each wanted bin, or of the nearest that has one left."""
    left = [iter(bin_members.tolist()) for bin_members in members]
    counts = [len(bin_members) for bin_members in members]
    picks = []
    for place in wanted:
        if not counts[place]:
            some = np.flatnonzero(counts)
            place = int(some[np.abs(some - place).argmin()])
        counts[place] -= 1
        picks.append(next(left[place]))
    return np.array(picks, dtype=np.int64)


def _checked_lengths(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return lengths as a vector, or raise InputError unless they are finite numbers."""
    try:
        lengths = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"length_matched: {name} must be a list of numbers") from None
    if lengths.ndim != 1:
        raise InputError(
            f"length_matched: {name} has shape {lengths.shape}; expected one dimension"
        )
    if not np.isfinite(lengths).all():
        place = int(np.argmin(np.isfinite(lengths)))
        raise InputError(f"length_matched: {name}[{place}] is {lengths[place]}; expected a number")
    return lengths


class LengthMatchedSettings(Section):
    """Random with matched lengths."""

    bins: int = Field(50, ge=1)
    """The most length bins; equal lengths share one."""


SELECTOR = Selector(
    name="length_matched",
    summary="random rows with the lengths of the round-robin subset: how much of a gain is length",
    Settings=LengthMatchedSettings,
    coordinate=coordinate,
)
