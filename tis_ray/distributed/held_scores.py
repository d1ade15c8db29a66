"""Selecting over a cluster: actors hold column shards of the scores, and the ordering is that of one machine.

Each actor memory-maps some of the shard files and answers the calls of the selectors' coordinators,
which run in the driver and see short lists only. The actors are started, and the scores checked,
once for all selectors of a study (`hold_scores`). An actor holds nothing but open files and what a
selector can work out of them again, so Ray may restart it anywhere that sees them and ask again;
which actor holds which shard, and how the columns are cut into shards, does not change one byte of
an ordering.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayTaskError

from tis_ray.distributed.lost import LESS_SCORES, MAX_RESTARTS, lost_workers
from tis_ray.errors import InputError
from tis_ray.selectors import Selector, find_selector
from tis_ray.selectors.ordering import (
    Extent,
    NonFinite,
    Ordering,
    Scores,
    first_non_finite,
    require_finite,
)
from tis_ray.selectors.protocol import Call, Layout, drive
from tis_ray.store import Artifact
from tis_ray.store.score_matrix import ScoreMatrix, open_scores

Rule = str | Selector
"""A selector by name, or as it is."""
Reply = Any
"""What a selector's shard returns to its coordinator: each has its own."""
CPUS_PER_ACTOR = 0.25
# An actor with files of more bytes than this gives the pages of each back after use, so that it
# holds one shard in memory and not all of its own.
RESIDENT_BYTES = 2**30


@dataclass(frozen=True)
class ShardRef:
    """One .npy file with columns [start, stop) of `scores_MN`, readable from every node."""

    path: str
    start: int
    stop: int


def select_distributed(
    score_shards: Sequence[ShardRef],
    selector: Rule,
    budget: int,
    num_actors: int,
    **params: Any,
) -> Ordering:
    """Return what `tis_ray.select` would on the whole matrix, without bringing it together.

    One selector over scores that are held for it alone: see `hold_scores`, which takes several.
    """
    find_selector(selector)  # an unknown one is refused before anything starts
    with hold_scores(score_shards, num_actors) as scores:
        return scores.select(selector, budget, **params)


@contextmanager
def hold_scores(score_shards: Sequence[ShardRef], num_actors: int) -> Iterator[HeldScores]:
    """Start the actors that hold the scores, for as many selections as are wanted.

        with hold_scores(shards, num_actors=4) as scores:
            orderings = [scores.select(name, budget) for name in ("round_robin", "uot")]

    score_shards: files that cover columns 0..N-1 without gap or overlap, in any order, all of one
        floating type and with the same M rows.
    num_actors: how many processes share the shards; no more than there are shards are started.

    Ray must be running (or starts by its own defaults). Raises InputError on shards that do not fit
    together, and names the first score that is not finite; FailedError where an actor keeps dying.
    """
    if num_actors < 1:
        raise InputError(f"num_actors {num_actors} is too small: use at least 1")
    shards = _in_order(score_shards)
    actors = _start_actors(shards, min(num_actors, len(shards)))
    try:
        facts = _facts(actors, None)
        layout = _layout(shards, [facts[shard] for shard in range(len(shards))])
        broken = [fact.non_finite for fact in facts.values() if fact.non_finite is not None]
        require_finite(min(broken, default=None))
        yield HeldScores(layout, actors, shards)
    finally:
        for actor in actors:
            ray.kill(actor)


class HeldScores:
    """Checked scores that actors hold; made by `hold_scores`."""

    def __init__(
        self,
        layout: Layout,
        actors: list[ActorHandle],
        shards: list[ShardRef],
        kept: ObjectRef | None = None,
    ) -> None:
        self.layout = layout
        self._actors, self._shards, self._kept = actors, shards, kept
        self._runs = itertools.count()

    def part(self, kept_N: np.ndarray) -> HeldScores:
        """Return the same scores of some candidates alone, which are counted among themselves.

        kept_N: a truth value for each candidate, at least one of them true.
        """
        kept = ray.put(kept_N)
        facts = _facts(self._actors, kept)
        sizes = [int(kept_N[shard.start : shard.stop].sum()) for shard in self._shards]
        filled = [facts[place].extent for place, size in enumerate(sizes) if size]
        layout = Layout(self.layout.queries, tuple(sizes), Extent.merged(filled))
        part = HeldScores(layout, self._actors, self._shards, kept)
        part._runs = self._runs
        return part

    def select(
        self, selector: Rule, budget: int, queries: Sequence[int] | None = None, **params: Any
    ) -> Ordering:
        """Return what `tis_ray.select` would on the whole matrix; its errors are the same.

        queries: select by these rows of the matrix alone, in this order; the ordering counts its
            queries among them.

        The driver holds O(M x list length).
        """
        chosen = None if queries is None else tuple(int(query) for query in queries)
        layout = self.layout if chosen is None else self.layout.of(chosen)
        spec = find_selector(selector)
        rounds = spec.rounds(layout, budget, params)
        run = _Run(next(self._runs), selector, chosen, self._kept)
        with lost_workers(f"selecting by {spec.name}", LESS_SCORES):
            return drive(rounds, lambda calls: _ask(self._actors, run, calls))


class _Run(NamedTuple):
    """One selection: its number among those of these actors, the selector, rows and columns (None: all)."""

    number: int
    selector: Rule
    queries: tuple[int, ...] | None
    kept: ObjectRef | None = None


class _Facts(NamedTuple):
    """What one shard file holds: its shape and type, its scores' extent, its first unusable one."""

    shape: tuple[int, int]
    dtype: str
    extent: Extent
    non_finite: NonFinite | None


class _ShardHolder:
    """The actor: maps each of its files once and answers for them, one run after the other."""

    def __init__(self, refs: dict[int, ShardRef]) -> None:
        self.refs = refs
        self.scores: dict[int, Scores] = {}
        self.run: _Run | None = None
        self.shards: dict[int, object] = {}
        self.kept_N: np.ndarray | None = None

    def facts(self, kept_N: np.ndarray | None = None) -> dict[int, _Facts]:
        """Read all scores once and say what those of the kept candidates are."""
        facts = {}
        for shard, ref in self.refs.items():
            if kept_N is None or kept_N[ref.start : ref.stop].any():
                facts[shard] = self._facts(shard, kept_N)
                self._release(shard)
        return facts

    def answer(self, run: _Run, calls: list[Call]) -> list[Reply]:
        """Reply to each call in order."""
        if run != self.run:
            # What shards remember serves one run, and is found again if that is not over.
            self.run, self.shards = run, {}
            self.kept_N = None if run.kept is None else ray.get(run.kept)
        replies = []
        for call in calls:
            replies.append(self._reply(run, *call))
            self._release(call.shard)
        return replies

    def _facts(self, shard: int, kept_N: np.ndarray | None) -> _Facts:
        scores_Mn = self._of(shard, kept_N)
        extent = Extent.of(scores_Mn)
        bad = None if extent.finite else first_non_finite(scores_Mn, self.refs[shard].start)
        return _Facts(scores_Mn.shape, scores_Mn.dtype.name, extent, bad)

    def _reply(self, run: _Run, shard: int, method: str, arguments: tuple[object, ...]) -> Reply:
        if shard not in self.shards:
            build = find_selector(run.selector).shard
            scores_Mn = self._of(shard, self.kept_N)
            if run.queries is not None:
                scores_Mn = scores_Mn[_rows(run.queries)]
            first = self.refs[shard].start
            if self.kept_N is not None:
                first = int(self.kept_N[:first].sum())
            self.shards[shard] = build(scores_Mn, first)
        return getattr(self.shards[shard], method)(*arguments)

    def _of(self, shard: int, kept_N: np.ndarray | None) -> Scores:
        """Return the scores of a shard's kept candidates; of some alone this is a copy."""
        scores_Mn = self._open(shard)
        if kept_N is None:
            return scores_Mn
        ref = self.refs[shard]
        return scores_Mn[:, kept_N[ref.start : ref.stop]]

    def _open(self, shard: int) -> Scores:
        if shard not in self.scores:
            self.scores[shard] = open_scores(self.refs[shard].path)
        return self.scores[shard]

    def _release(self, shard: int) -> None:
        """Let the system take back the pages of a file, if the actor has many more to read."""
        pages = self.scores[shard].base
        if isinstance(pages, mmap.mmap) and self._bytes > RESIDENT_BYTES:
            pages.madvise(mmap.MADV_DONTNEED)

    @property
    def _bytes(self) -> int:
        """Of all files of this actor, as far as they are open."""
        return sum(scores_Mn.nbytes for scores_Mn in self.scores.values())


def score_shards(scores: Artifact) -> list[ShardRef]:
    """Return the column shards of a scores artifact, as selector actors read them."""
    matrix = ScoreMatrix(scores.path)
    bounds = pairwise(matrix.starts.tolist())
    return [
        ShardRef(str(path), start, stop)
        for path, (start, stop) in zip(matrix.files, bounds, strict=True)
        if stop > start
    ]


def _rows(queries: tuple[int, ...]) -> slice | list[int]:
    """Return an index of these rows; a slice where they are neighbours, which copies nothing."""
    if queries == tuple(range(queries[0], queries[-1] + 1)):
        return slice(queries[0], queries[-1] + 1)
    return list(queries)


def _in_order(score_shards: Sequence[ShardRef]) -> list[ShardRef]:
    """Return the non-empty shards by first column, or raise InputError on a gap or overlap."""
    shards = sorted((s for s in score_shards if s.start != s.stop), key=lambda s: s.start)
    if not shards:
        raise InputError("scores: no shards; the pool is empty")
    expected = 0
    for shard in shards:
        if shard.start != expected or shard.stop < shard.start:
            raise InputError(
                f"scores: {shard.path} holds columns [{shard.start}, {shard.stop}), but the next "
                f"column needed is {expected}; shards must cover the pool once"
            )
        expected = shard.stop
    return shards


def _start_actors(shards: list[ShardRef], count: int) -> list[ActorHandle]:
    # A string strategy also escapes the placement group of a Tune trial around us.
    remote = ray.remote(_ShardHolder).options(
        num_cpus=CPUS_PER_ACTOR,
        scheduling_strategy="SPREAD",
        max_restarts=MAX_RESTARTS,
        max_task_retries=MAX_RESTARTS,
    )
    dealt: list[dict[int, ShardRef]] = [{} for _ in range(count)]
    for number, shard in enumerate(shards):
        dealt[number % count][number] = shard
    return [remote.remote(mine) for mine in dealt]


def _facts(actors: list[ActorHandle], kept: ObjectRef | None) -> dict[int, _Facts]:
    """Return what each shard holds; those without a kept candidate are left out."""
    facts: dict[int, _Facts] = {}
    with lost_workers("reading the scores", LESS_SCORES):
        for part in _receive([actor.facts.remote(kept) for actor in actors]):
            facts |= part
    return facts


def _layout(shards: list[ShardRef], facts: list[_Facts]) -> Layout:
    """Return the layout, or raise InputError when a file is not what its reference says."""
    first = facts[0]
    for shard, fact in zip(shards, facts, strict=True):
        expected = (first.shape[0], shard.stop - shard.start)
        if fact.shape != expected or fact.dtype != first.dtype:
            raise InputError(
                f"scores: {shard.path} holds {fact.dtype} {fact.shape}, expected {first.dtype} "
                f"{expected} for columns [{shard.start}, {shard.stop})"
            )
    sizes = tuple(shard.stop - shard.start for shard in shards)
    return Layout(first.shape[0], sizes, Extent.merged([fact.extent for fact in facts]))


def _ask(actors: list[ActorHandle], run: _Run, calls: list[Call]) -> list[Reply]:
    """Answer one round: one message to each actor concerned, all at once."""
    mine: dict[int, list[int]] = {}
    for position, call in enumerate(calls):
        mine.setdefault(call.shard % len(actors), []).append(position)
    futures = [
        actors[a].answer.remote(run, [calls[p] for p in places]) for a, places in mine.items()
    ]
    replies: list[Reply] = [None] * len(calls)
    for places, answers in zip(mine.values(), _receive(futures), strict=True):
        for position, reply in zip(places, answers, strict=True):
            replies[position] = reply
    return replies


def _receive(futures: list[ObjectRef]) -> list[Reply]:
    """Wait for the replies; an InputError raised in an actor comes out as itself."""
    try:
        answers: list[Reply] = ray.get(futures)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    return answers
