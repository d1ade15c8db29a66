"""A worker that dies every time ends the run in a line. All deaths here are real ones."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from tests.memory_kill import error_without_memory
from tis_ray.distributed import held_scores, shards
from tis_ray.distributed.connect import Cluster
from tis_ray.distributed.held_scores import ShardRef, select_distributed
from tis_ray.distributed.shards import map_shards
from tis_ray.distributed.worker_group import run_training
from tis_ray.errors import FailedError, InputError
from tis_ray.log import RunLog

pytestmark = pytest.mark.ray

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Dying:
    """A worker that is killed on every shard."""

    def __call__(self, shard: int) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


class Refusing:
    """A worker that cannot be built."""

    def __init__(self) -> None:
        raise InputError("data.query: no query row has a feature")

    def __call__(self, shard: int) -> dict[str, Any]:
        return {}


class DyingHolder(held_scores._ShardHolder):
    """An actor with scores that is killed by every question."""

    def answer(self, run: Any, calls: list[Any]) -> list[Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []


def study(folder: Path) -> Any:
    return SimpleNamespace(cluster=Cluster(4, 0, 1, 0, actors=1), log=RunLog(folder))


@pytest.mark.slow
def test_a_shard_that_kills_its_worker_ends_the_run_in_a_line(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Data by itself would start the worker again for ever."""
    monkeypatch.setattr(shards, "MAX_RESTARTS", 1)
    with pytest.raises(FailedError) as failed:
        map_shards(Dying, {}, [0], study(tmp_path), "features less")
    assert str(failed.value).startswith(
        "features less: a worker process was killed without a message"
    )
    assert "batch.tokens" in str(failed.value)
    assert str(failed.value).endswith("; the same command continues")
    assert "\n" not in str(failed.value)


def test_bad_input_that_a_worker_finds_as_it_is_built_keeps_its_line(
    ray_cluster: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        map_shards(Refusing, {}, [0], study(tmp_path), "scores less")
    assert str(refused.value) == "data.query: no query row has a feature"


def test_an_actor_with_scores_that_keeps_dying_ends_the_run_in_a_line(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "scores.npy", np.eye(3, 8, dtype=np.float32))
    monkeypatch.setattr(held_scores, "MAX_RESTARTS", 1)
    monkeypatch.setattr(held_scores, "_ShardHolder", DyingHolder)
    ref = ShardRef(str(tmp_path / "scores.npy"), 0, 8)
    with pytest.raises(FailedError) as failed:
        select_distributed([ref], "round_robin", 3, num_actors=1)
    assert str(failed.value).startswith(
        "selecting by round_robin: a worker process was killed without a message"
    )
    assert "compute.actors: 1" in str(failed.value)
    assert "\n" not in str(failed.value)


def die(order: None) -> None:
    """A training that is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_training_whose_worker_is_killed_too_often_ends_in_a_line(
    ray_cluster: Any, tmp_path: Path
) -> None:
    cluster = Cluster(4, 0, 1, 0, actors=1, max_failures=0)
    with pytest.raises(FailedError) as failed:
        run_training("warmup-1", die, None, 1, cluster, tmp_path)
    assert str(failed.value).startswith("warmup-1: a worker process was killed without a message")
    assert "finetune.micro_tokens" in str(failed.value)
    assert "\n" not in str(failed.value)


TOO_LARGE = """
import sys, time
from pathlib import Path
from tis_ray.distributed import shards
from tis_ray.distributed.starting import start_here
from tis_ray.errors import FailedError
from tests.distributed.test_lost import study

class TooLarge:
    def __call__(self, shard):
        rows = bytearray(2**28)
        time.sleep(120)

if __name__ == "__main__":
    start_here(num_cpus=2, log_to_driver=False)
    shards.MAX_RESTARTS = 0
    try:
        shards.map_shards(TooLarge, {}, [0], study(Path(sys.argv[1])), "features less")
    except FailedError as error:
        Path(sys.argv[1], "error.txt").write_text(str(error))
"""


@pytest.mark.slow
def test_a_worker_that_the_memory_monitor_kills_is_named_as_such(tmp_path: Path) -> None:
    """By a Ray that allows no more memory than is already used."""
    line = error_without_memory(TOO_LARGE, tmp_path)
    assert line.startswith(
        "features less: a worker process was killed by Ray's memory monitor: it held 0."
    )
    assert "batch.shard_rows" in line
    assert "\n" not in line
