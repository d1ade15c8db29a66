"""Keeping Ray quiet: its messages and usage statistics are held back while tis_ray works with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # notes of its C++ side; Python still sees errors
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TOKENIZERS_PARALLELISM": "false",
    # Of a trial's results in three formats, and of Tune's own state every few seconds, nobody reads any, and in a
    # bucket each is a request: a study that is started again begins with a new Tuner.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}
"""Ray reads these when it is imported or started, and so do the processes that it starts."""

LOGGERS = {
    # The run itself reports what matters of these, in one line.
    "ray._private.authentication": logging.CRITICAL,
    "ray._private.worker": logging.ERROR,  # that signals are ours, where it joins in a thread
    "ray.data": logging.CRITICAL,
    "ray.tune": logging.CRITICAL,
    "ray.train": logging.WARNING,
    "ray.widgets": logging.WARNING,  # which packages a notebook lacks for Ray's own displays
}


@contextmanager
def quiet_connection() -> Iterator[None]:
    """Hold back what Ray's C++ side writes to standard error when a process connects to its own Ray.

    It says there that it has read RAY_BACKEND_LOG_LEVEL, before it does as that says.
    """
    from ray._private import worker

    from tis_ray.log.descriptors import descriptors_to

    whole = worker.connect

    def quietly(*arguments: Any, **named: Any) -> Any:
        with descriptors_to(Path(os.devnull), own=(2,)):
            return whole(*arguments, **named)

    worker.connect = quietly
    try:
        yield
    finally:
        worker.connect = whole


@contextmanager
def quiet_ray() -> Iterator[None]:
    """Hold back Ray's messages and usage statistics; afterwards all is as it was.

    A variable that the user has set stays. `RAY_ENABLE_UV_RUN_RUNTIME_ENV` is read when Ray is
    imported, so the `tis-ray` program enters this first of all.
    """
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    levels = {name: logging.getLogger(name).level for name in ("ray", *LOGGERS)}
    os.environ.update(added)
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name in added:
            os.environ.pop(name, None)
