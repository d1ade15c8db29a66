"""Ray on this machine is started again where it gave up."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import ray

from tis_ray.distributed import starting
from tis_ray.errors import FailedError

GAVE_UP = (
    "The current node timed out during startup. This could happen because some of the raylet failed to "
    "startup or the GCS has become overloaded."
)
"""What Ray 2.60 raises on a busy machine."""


def giving_up(monkeypatch: pytest.MonkeyPatch, times: int, words: str) -> list[None]:
    """Let Ray give up so many times before it starts really; return what counts its tries."""
    tries: list[None] = []
    really = ray.init

    def init(**options: Any) -> Any:
        tries.append(None)
        if len(tries) <= times:
            raise Exception(words)
        return really(**options)

    monkeypatch.setattr(ray, "init", init)
    return tries


@pytest.mark.ray
def test_a_start_that_gave_up_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, ray_cluster: Any
) -> None:
    ray.shutdown()
    tries = giving_up(monkeypatch, 1, GAVE_UP)
    starting.start_here(num_cpus=4, log_to_driver=False, object_store_memory=200 * 2**20)
    assert len(tries) >= 2
    assert ray.cluster_resources()["CPU"] == 4


def test_a_machine_that_stays_busy_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = giving_up(monkeypatch, 99, GAVE_UP)
    with pytest.raises(FailedError, match="it is too busy; end other work"):
        starting.start_here()
    assert len(tries) == starting.STARTS


def test_another_failure_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = giving_up(monkeypatch, 99, "no such option")
    with pytest.raises(Exception, match="no such option"):
        starting.start_here()
    assert len(tries) == 1


@pytest.mark.ray
def test_ray_says_nothing_of_its_own_when_it_starts() -> None:
    program = (
        "import logging; from tis_ray.distributed.quiet import quiet_ray; "
        "from tis_ray.distributed.starting import start_here; import ray\n"
        "with quiet_ray():\n"
        "    start_here(num_cpus=1, log_to_driver=False, logging_level=logging.ERROR)\n"
        "    print(ray.is_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
