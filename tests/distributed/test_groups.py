"""Many shards are few tasks, and a task that begins again does no finished shard again."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.groups import GroupWork, ShardFacts, groups_of
from tis_ray.distributed.shards import map_shards
from tis_ray.log import RunLog
from tis_ray.store import find_json, write_json

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.mark.parametrize("light", [True, False])
@pytest.mark.parametrize(("shards", "actors"), [(1, 1), (16, 4), (257, 1), (4000, 2), (10**6, 300)])
def test_every_shard_is_in_one_group_and_groups_do_not_grow_in_number(
    shards: int, actors: int, light: bool
) -> None:
    numbers = [*range(-3, shards - 3)]
    groups = groups_of(numbers, actors, light)
    assert sorted(shard for group in groups for shard in group) == numbers
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert len(groups) <= max((8 if light else 64) * actors, 16 if light else 256)
    assert len(groups) >= min(shards, (8 if light else 64) * actors) / 2


def test_few_shards_are_a_task_each() -> None:
    assert groups_of([5, 6, 9], 2, light=False) == [[5], [6], [9]]
    assert groups_of([], 2, light=True) == []


def test_a_group_goes_on_after_the_shards_that_are_noted(tmp_path: Path) -> None:
    write_json(tmp_path / "4.json", {"4": {"rows": 7, "seconds": 0.5}, "99": {"rows": 1}})
    seen = []

    def work(shard: int) -> ShardFacts:
        seen.append(shard)
        return {"rows": shard, "seconds": 0.0}

    facts = GroupWork(tmp_path, work)([4, 5, 6])
    assert seen == [5, 6]
    assert [fact["rows"] for fact in facts] == [7, 5, 6]


def test_shards_are_noted_once_a_second_while_some_are_left(tmp_path: Path) -> None:
    def work(shard: int) -> ShardFacts:
        noted = find_json(tmp_path / "0.json") or {}
        assert set(noted) == {str(n) for n in range(shard)}
        time.sleep(1.05)
        return {"rows": 1, "seconds": 1.05}

    GroupWork(tmp_path, work)([0, 1])
    assert set(find_json(tmp_path / "0.json")) == {"0"}


class Once:
    """A worker that notes each call, and is killed the first time at shard 10."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, shard: int) -> ShardFacts:
        with (self.folder / "calls").open("a") as calls:
            calls.write(f"{shard}\n")
        if shard in (8, 9):
            time.sleep(1.1)
        if shard == 10 and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"rows": 2, "seconds": 0.0}


@pytest.mark.ray
def test_a_worker_that_is_killed_costs_the_shard_it_was_at(
    ray_cluster: Any, tmp_path: Path
) -> None:
    log = RunLog(tmp_path)
    context = SimpleNamespace(cluster=Cluster(4, 0, 1, 0, actors=1), log=log)
    # 64 shards of light work are 16 groups of four.
    totals = map_shards(Once, {"folder": tmp_path}, range(64), context, "x", light=True)
    assert totals["rows"] == 128
    assert sum(totals["nodes"].values()) == 64
    calls = sorted(map(int, (tmp_path / "calls").read_text().split()))
    assert calls == sorted([*range(64), 10])
    assert not (tmp_path / "rows-seen").exists()
