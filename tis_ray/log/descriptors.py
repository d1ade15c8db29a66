"""Where what is printed past Python goes while a run goes on: libraries in C++, and processes of Ray's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tis_ray.storage import Place
from tis_ray.store import end_of


@contextmanager
def descriptors_to(log: Place, own: tuple[int, ...] = (1, 2)) -> Iterator[None]:
    """Let file descriptors, standard output and error, be the end of the file `log` while the block runs.

    Of a log in a bucket what is written is kept on this machine, and added when the block ends.
    """
    before = {descriptor: os.dup(descriptor) for descriptor in own}
    with end_of(log) as file:
        _flush()
        for descriptor in before:
            os.dup2(file.fileno(), descriptor)
        try:
            yield
        finally:
            _flush()
            for descriptor, kept in before.items():
                os.dup2(kept, descriptor)
                os.close(kept)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
