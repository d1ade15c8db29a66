"""Groups of shards: what one task of Ray Data does, where each shard alone is too little work for one.

A task costs the driver about 15 ms, however little it does, so their number must not grow with the pool. A group
that is begun again, on another node, goes on after the shards that are noted as done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NotRequired, TypedDict

from tis_ray.storage import Place, pace
from tis_ray.store import find_json, write_json

LIGHT_TASKS = 8
"""For each actor, of work that ends soon: the last actor to end works an eighth longer than the first."""
MODEL_TASKS = 64
"""The same of work that runs a model: an actor that comes later must find work too."""
LEAST_LIGHT, LEAST_MODEL = 16, 256
"""Tasks of a stage with few actors, as far as there are shards."""


class ShardFacts(TypedDict):
    """What one shard came to. cut: texts that were too long and were cut, where that is counted."""

    rows: int
    seconds: float
    cut: NotRequired[int]


def groups_of(shards: Sequence[int], actors: int, light: bool) -> list[list[int]]:
    """Return shards in groups, a task each; single ones where there are few.

    A group has every n-th shard: the later ones of a pool are larger, and each group has its share of them.
    """
    each, least = (LIGHT_TASKS, LEAST_LIGHT) if light else (MODEL_TASKS, LEAST_MODEL)
    size = math.ceil(len(shards) / max(each * actors, least)) or 1
    groups = math.ceil(len(shards) / size)
    return [[*shards[begin::groups]] for begin in range(groups)]


class GroupWork:
    """Does the shards of a group one after the other, and notes at most once a second which are done."""

    def __init__(self, notes: Place, work: Callable[[int], ShardFacts]) -> None:
        self.notes, self.work = notes, work

    def __call__(self, group: Sequence[int]) -> list[ShardFacts]:
        """Return what each shard came to; those that are noted as done are not done again."""
        note = self.notes / f"{group[0]}.json"
        noted = (find_json(note) or {}) if len(group) > 1 else {}
        done: dict[str, ShardFacts] = {str(n): noted[str(n)] for n in group if str(n) in noted}
        written = time.monotonic()
        for shard in group:
            if str(shard) in done:
                continue
            done[str(shard)] = self.work(shard)
            if len(done) < len(group) and time.monotonic() - written > pace(note, 1.0):
                write_json(note, done)
                written = time.monotonic()
        return [done[str(shard)] for shard in group]
