"""Where what is printed past Python goes while a run goes on: libraries in C++, and processes of Ray's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tis_ray.storage import Place
from tis_ray.store import end_of


@contextmanager
def descriptors_to(log: Place) -> Iterator[None]:
    """Let file descriptors 1 and 2 be the end of the file `log` while the block runs.

    Of a log in a bucket what is written is kept on this machine, and added when the block ends.
    """
    before = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    with end_of(log) as file:
        _flush()
        for descriptor in before:
            os.dup2(file.fileno(), descriptor)
        try:
            yield
        finally:
            _flush()
            for descriptor, own in before.items():
                os.dup2(own, descriptor)
                os.close(own)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
