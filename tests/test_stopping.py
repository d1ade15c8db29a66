"""A program that takes signals ends in a line, with its code, whatever its main thread is doing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

START = """
import signal, subprocess, sys, threading, time
from tis_ray.stopping import Stop, end, own_signals, stop_at_signals, told_of_stop

stop_at_signals(lambda line: print(line, file=sys.stderr, flush=True))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

def ready():
    print(child.pid, flush=True)
"""
SWALLOWS = """
ready()
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""
REPLACED = """
signal.signal(signal.SIGINT, lambda *_: None)  # as Ray Train's `fit` does
signal.signal(signal.SIGTERM, lambda *_: None)
ready()
time.sleep(60)
"""
TAKEN_IN_C = """
import ctypes
with own_signals():
    ctypes.CDLL(None).signal(signal.SIGTERM, 0)  # the system's default, as C++ code may set it
    time.sleep(0.5)
    ready()
    time.sleep(60)
"""
TOLD = """
def slow(stop):
    print("told", stop.by, file=sys.stderr, flush=True)
    time.sleep(60)
with told_of_stop(slow):
    ready()
    time.sleep(60)
"""

DONE_AT_ONCE = """
from pathlib import Path
from tis_ray.log import RunLog
log = RunLog(Path(sys.argv[1]))
def tell(stop):
    time.sleep(0.5)  # it has much to do
    log.event("stopped", by=stop.by)
with told_of_stop(tell):
    ready()
    time.sleep(0.4)
    log.event("done")
    time.sleep(60)
"""


def of_text(program: str, *words: str) -> subprocess.Popen[str]:
    """Start a program in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def started(program: str, *words: str) -> tuple[subprocess.Popen[str], int]:
    """Start a program; return it, and the number of the process that it has started."""
    process = of_text(START + program, *words)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("program", [SWALLOWS, REPLACED, TAKEN_IN_C])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_program_in_a_line(program: str, number: int, code: int) -> None:
    process, child = started(program)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=10)
    assert said == "stopped; the same command continues\n"
    assert process.returncode == code
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_who_keeps_a_record_is_told_and_has_a_few_seconds() -> None:
    process, _ = started(TOLD)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert said == "told SIGTERM\nstopped; the same command continues\n"
    assert 2 < time.monotonic() - began < 8


def test_what_is_stopped_is_not_done_a_moment_later(tmp_path: Path) -> None:
    process, _ = started(DONE_AT_ONCE, str(tmp_path))
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["stopped"]


def test_a_second_signal_waits_for_nobody() -> None:
    process, _ = started(TOLD)
    assert process.stderr is not None
    os.kill(process.pid, signal.SIGTERM)
    assert process.stderr.readline() == "told SIGTERM\n"
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(10) == 130
    assert time.monotonic() - began < 1.5


def test_any_thread_may_end_the_program() -> None:
    process, _ = started(
        "threading.Thread(target=end, args=(Stop('head lost', 'failed: gone', 1),)).start()\n"
        "ready()\ntime.sleep(60)"
    )
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (1, "failed: gone\n")


def test_handlers_are_as_they_were_after_a_library_has_set_its_own() -> None:
    from tis_ray.stopping import own_signals

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with own_signals():
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_before_anything_is_loaded_is_a_line(tmp_path: Path) -> None:
    """From the first moment that Python runs code of ours."""
    (tmp_path / "study.yaml").write_text("name: tiny\n")
    program = (
        "import os, signal, sys, threading\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            os.killpg(0, signal.SIGINT)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "sys.argv = ['tis-ray', 'run', '-c', 'study.yaml']\n"
        "from tis_ray.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "stopped; the same command continues\n")


@pytest.mark.ray
def test_processes_of_ray_do_not_hear_a_signal_to_the_group() -> None:
    """Else their end would be ours, with exit code 1 and no word."""
    program = """
import sys
from contextlib import suppress
from pathlib import Path

import psutil
from tis_ray.distributed.starting import start_here
from tis_ray.stopping import own_signals, stop_at_signals

stop_at_signals(lambda line: print(line, file=sys.stderr, flush=True))
with own_signals():
    start_here(num_cpus=1, log_to_driver=False)
for process in psutil.Process().children(recursive=True):
    with suppress(psutil.NoSuchProcess):  # some of Ray's helpers live for a moment
        if process.name() in ("raylet", "gcs_server"):
            status = Path(f"/proc/{process.pid}/status").read_text()
            print(process.name(), status.partition("SigBlk:")[2].split()[0])
own = Path("/proc/self/status").read_text()
print("own", own.partition("SigBlk:")[2].split()[0], flush=True)
import time
time.sleep(60)
"""
    process = of_text(program)
    assert process.stdout is not None
    lines = [process.stdout.readline().split() for _ in range(3)]
    if not all(lines):
        pytest.fail(process.communicate(timeout=20)[1])
    masks = dict(lines)
    bit = 1 << (signal.SIGTERM - 1)
    assert set(masks) == {"raylet", "gcs_server", "own"}
    assert int(masks["raylet"], 16) & bit
    assert int(masks["gcs_server"], 16) & bit
    assert not int(masks["own"], 16) & bit
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert said.splitlines()[-1] == "stopped; the same command continues"


RAY_STARTS = """
from tis_ray.stopping import own_signals, stop_at_signals
stop_at_signals(lambda line: print(line, flush=True))
from tis_ray.distributed.starting import start_here
print("begins", flush=True)
with own_signals():
    start_here(num_cpus=1, log_to_driver=False)
"""


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_process_of_rays_does_not_answer(number: signal.Signals) -> None:
    """Ray waits for its `gcs_server` in compiled code; here that never answers."""
    process = of_text(RAY_STARTS)
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    halted: list[psutil.Process] = []
    while not halted:
        assert process.poll() is None
        children = psutil.Process(process.pid).children()
        halted = [child for child in children if child.name() == "gcs_server"]
    halted[0].suspend()
    time.sleep(1.0)  # now Ray waits for it
    began = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == 128 + number
    assert said == "stopped; the same command continues\n"
    left = halted[0]
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
