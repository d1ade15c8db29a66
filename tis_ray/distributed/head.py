"""The head of the cluster: a thread looks whether it is there, and ends the program in a line where it is not.

Without its head Ray waits for a minute and then ends the process from C++, with a dump and without a word.
"""

from __future__ import annotations

import socket
import threading
import time

from tis_ray.stopping import CONTINUES, Stop, end

OFTEN, PATIENCE = 2.0, 30.0
"""Seconds between two looks, and how long the head may be away: Ray itself gives up after 60."""


def watch_head(address: str) -> None:
    """From now on end the program when nobody answers at `address` ("host:port") for a while.

    On this machine, where no network is between, three refusals in a row are enough.
    """
    threading.Thread(target=_watch, args=(address,), name="head", daemon=True).start()


def _watch(address: str) -> None:
    host, _, port = address.rpartition(":")
    answered, refused = time.monotonic(), 0
    while True:
        time.sleep(OFTEN)
        try:
            socket.create_connection((host, int(port)), timeout=OFTEN).close()
        except OSError as error:
            gone = isinstance(error, ConnectionRefusedError)
            refused = refused + 1 if gone and _is_here(host) else 0
            if refused >= 3 or time.monotonic() - answered > PATIENCE:
                end(_lost(address))
                return
        else:
            answered, refused = time.monotonic(), 0


def _is_here(host: str) -> bool:
    try:
        with socket.socket() as tried:
            tried.bind((host, 0))  # only an address of this machine can be bound
    except OSError:
        return False
    return True


def _lost(address: str) -> Stop:
    return Stop(
        "head lost",
        f"failed: Ray's head at {address} does not answer any more; see that it runs "
        f"(`ray status`), or use a machine with more memory; {CONTINUES}",
        1,
    )
