"""The head of the cluster: a thread looks whether it is there, and ends the program in a line where it is not.

Without its head Ray waits for a minute and then ends the process from C++, with a dump and without a word.
"""

from __future__ import annotations

import socket
import threading
import time

import psutil

from tis_ray.stopping import CONTINUES, Stop, end

PARTS = ("gcs_server", "raylet")
MORE_MEMORY = "use fewer actors (compute.actors: 1) or a machine with more memory"
SEE_HEAD = "see that it runs and can be reached (`ray status`)"
OFTEN, PATIENCE = 1.0, 30.0
"""Seconds between two looks, and how long the head may be away: Ray itself gives up after 60."""


def watch_head(address: str) -> None:
    """From now on end the program when nobody answers at `address` ("host:port") for a while.

    Of a cluster that this process has started it is enough that one of its processes is gone.
    """
    own = [child for child in psutil.Process().children() if child.name() in PARTS]
    threading.Thread(target=_watch, args=(address, own), name="head", daemon=True).start()


def _watch(address: str, own: list[psutil.Process]) -> None:
    host, _, port = address.rpartition(":")
    answered = time.monotonic()
    while True:
        time.sleep(OFTEN)
        for process in own:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                end(_lost("Ray has ended on this machine, as when memory runs out", MORE_MEMORY))
                return
        try:
            socket.create_connection((host, int(port)), timeout=OFTEN).close()
            answered = time.monotonic()
        except OSError:
            if time.monotonic() - answered > PATIENCE:
                end(_lost(f"Ray's head at {address} does not answer any more", SEE_HEAD))
                return


def _lost(what: str, advice: str) -> Stop:
    return Stop("head lost", f"failed: {what}; {advice}; {CONTINUES}", 1)
