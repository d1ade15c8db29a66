"""A signal while Ray starts, and one of its processes does not answer."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

PROGRAM = """
from tis_ray.stopping import own_signals, stop_at_signals
stop_at_signals(lambda line: print(line, flush=True))
from tis_ray.distributed.starting import start_here
print("begins", flush=True)
with own_signals():
    start_here(num_cpus=1, log_to_driver=False)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_the_program_at_once(number: signal.Signals) -> None:
    """Ray waits for its `gcs_server` in compiled code; here that never answers."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "begins\n"
    halted: list[psutil.Process] = []
    while not halted:
        assert program.poll() is None
        children = psutil.Process(program.pid).children()
        halted = [child for child in children if child.name() == "gcs_server"]
    halted[0].suspend()
    time.sleep(1.0)  # now Ray waits for it
    began = time.monotonic()
    program.send_signal(number)
    said, _ = program.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert program.returncode == 128 + number
    assert said == "stopped; the same command continues\n"
    left = halted[0]
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
