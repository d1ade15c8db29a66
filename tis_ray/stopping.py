"""Ending a program at once, whatever it is doing: at Ctrl-C, when the system ends it, when its cluster is gone.

Every file of a run is written beside its place and renamed, so that a run may end anywhere and goes on
from there. What is left to do is little: tell those who keep a record, say a line, end the processes
that were started. A thread does it, woken by what Python's signal handling does in C (`set_wakeup_fd`).
An exception in the main thread would not do: libraries swallow it, C++ code holds it up for minutes, and
Ray puts its own handlers, which raise others, in place of ours.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from tis_ray.background import in_background

if TYPE_CHECKING:
    import psutil

MOST_SECONDS = 3.0
"""How long those who are told may take, all together."""
LAST_SECONDS = 2.0
"""How long killed processes may take to be gone."""
RAYS_OWN = ("raylet", "gcs_server")
OFTEN = 0.01
"""Seconds between two looks at whether a signal still reaches us, while Ray starts."""


@dataclass(frozen=True)
class Stop:
    """Why the program ends: `by` in a word or two, the line that is said, and the exit code."""

    by: str
    line: str
    code: int


CONTINUES = "the same command continues"
STOPS = {
    number: Stop(by, f"stopped; {CONTINUES}", 128 + number)
    for number, by in (
        (signal.SIGINT, "Ctrl-C"),
        (signal.SIGTERM, "SIGTERM"),
        (signal.SIGHUP, "SIGHUP"),
    )
}
Tell = Callable[[Stop], None]

_told: list[Tell] = []
_lines: list[str] = []
"""What is said at a signal instead of the usual; the last one counts."""
_say: Callable[[str], None] | None = None
"""How the program says its last line, and nothing after it; None where this process is no program of ours."""
_handled: dict[signal.Signals, ctypes.Array[ctypes.c_char]] = {}
"""What the C library calls at each signal, as Python has set it."""
_ending = threading.Lock()
SOON = 2.0
"""Seconds after which a program is taken for one that goes on."""
_OF_GROUPS = (signal.SIGTERM, signal.SIGHUP)
"""What reaches a whole group of processes; Ray itself keeps SIGINT from its own."""


def stop_at_signals(say: Callable[[str], None]) -> None:
    """From now on a signal of `STOPS` ends this process: one line by `say`, its exit code, nothing left over.

    For a program that owns its process; nothing is put back. A second signal ends it without waiting
    for those who are told. SIGHUP stays ignored where it is (`nohup`).
    """
    global _say
    if _say is not None or threading.current_thread() is not threading.main_thread():
        return
    _say = say
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in STOPS:
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        signal.signal(number, _nothing)
        _handled[number] = ctypes.create_string_buffer(1024)
        ctypes.CDLL(None).sigaction(number, None, _handled[number])
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_wait, args=(reading,), name="stopping", daemon=True).start()


@contextmanager
def told_of_stop(tell: Tell) -> Iterator[None]:
    """Call `tell` if the program is stopped inside; it runs beside the work and has a second or two."""
    _told.append(tell)
    try:
        yield
    finally:
        _told.remove(tell)


@contextmanager
def stopped_by(line: str) -> Iterator[None]:
    """Let `line` be the last word if a signal stops the program inside: for what only watches the work."""
    _lines.append(line)
    try:
        yield
    finally:
        _lines.remove(line)


@contextmanager
def own_signals() -> Iterator[None]:
    """Leave the handlers of signals as they were, whatever a library sets inside.

    Processes that are started inside do not hear SIGTERM and SIGHUP: a signal to the whole group would end
    Ray's, and their end makes C++ code in this process end it, with exit code 1 and without a word. We
    end them ourselves (`end_children`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_GROUPS if _handled else ())
    with in_background(_keep_handled) if _handled else nullcontext():
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)


def end(stop: Stop) -> None:
    """End the program as a signal would, from any thread; does nothing in a process that is not a program."""
    if _say is not None and _ending.acquire(blocking=False):
        _tell(stop)
        _end(stop)


@contextmanager
def unless_stopped() -> Iterator[None]:
    """Say inside that the work is done; where a signal has come before, this does not return, and the program ends.

    So nothing is done and stopped at once.
    """
    with _ending:
        yield


def leave(code: int) -> NoReturn:
    """End the program when all is done, with what it has started: there is nothing to wait for.

    The interpreter's own end, with what libraries do in it, takes seconds in which a signal is a dump.
    """
    _ending.acquire()  # from here on a signal changes nothing
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    end_children()
    os._exit(code)


def _nothing(number: int, frame: object) -> None:
    """Stand for the default: what has to be done is done by the thread that the signal wakes."""


def _keep_handled(stop: threading.Event) -> None:
    """Undo it at once when C++ code takes a signal away from Python, as Ray's does at its start."""
    while not stop.wait(OFTEN):
        for number, action in _handled.items():
            ctypes.CDLL(None).sigaction(number, action, None)


def _wait(reading: int) -> None:
    select.select([reading], [], [], SOON)
    import psutil  # noqa: F401 - not by what takes a moment, and not when there is no time

    stop = _next(reading)
    _ending.acquire()
    with suppress(Exception):
        _halt_rays_own()
    telling = threading.Thread(target=_tell, args=(stop,), daemon=True)
    telling.start()
    again = threading.Thread(target=lambda: _end(_next(reading)), daemon=True)
    again.start()
    telling.join(MOST_SECONDS)
    _end(stop)


def _next(reading: int) -> Stop:
    while True:
        select.select([reading], [], [])
        for number in os.read(reading, 64):
            if number in STOPS:
                return STOPS[signal.Signals(number)]


def _tell(stop: Stop) -> None:
    for tell in reversed(_told.copy()):
        with suppress(Exception):  # the process ends; whoever cannot be told reads it from the rest
            tell(stop)


def _end(stop: Stop) -> None:
    """Say the line, end what this process has started, and end."""
    with suppress(Exception):
        sys.stdout.flush()
    if _say is not None:
        with suppress(Exception):
            _say(_lines[-1] if _lines and stop.code > 128 else stop.line)
    with suppress(Exception):
        end_children()
    os._exit(stop.code)


def _halt_rays_own() -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Halt the processes of Ray's own; return all other children, and these.

    They end at a signal to the whole group, and when one of the others ends, and their end makes C++ code
    in this process end it with exit code 1, before we do with ours.
    """
    import psutil

    others: list[psutil.Process] = []
    rays: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.name() in RAYS_OWN:
                process.suspend()
                rays.append(process)
            else:
                others.append(process)
    return others, rays


def end_children() -> None:
    """Kill the processes that this one has started, and theirs.

    Ray's own come last and are not waited for, so that their end is after ours.
    """
    import psutil

    with suppress(psutil.Error):
        first, last = _halt_rays_own()
        for process in first:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(first, timeout=LAST_SECONDS)
        for process in last:
            with suppress(psutil.Error):
                process.kill()
