"""Lost actors: how often Ray starts one again, and the line that a run ends with when that is over.

A worker of a training is started again by `worker_group` (`compute.max_failures`), a trial by `trials`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

from tis_ray.errors import FailedError

MAX_RESTARTS = 8
"""How often an actor is started again. One that keeps dying ends the run; Ray alone would go on for ever."""

LESS_TRAINING = "run fewer at a time (compute.actors: 1), or lower finetune.micro_tokens"
LESS_WORK = (
    "run fewer at a time (compute.actors: 1), lower batch.tokens or batch.shard_rows, or use a "
    "machine with more memory"
)
LESS_SCORES = "use fewer actors (compute.actors: 1) or a machine with more memory"
"""What to do when memory runs out, by what was done."""

_KILLED_BY_RAY = re.compile(
    r"was (?P<used>[\d.]+GB) used / (?P<all>[\d.]+GB) limit"
    r".*Selected to kill: .*?actual memory used=(?P<own>[\d.]+GB)",
    re.DOTALL,
)
_KILLED_BY_SYSTEM = re.compile(r"killed by (SIGKILL by|the) OOM killer")
"""The first of the causes that Ray lists for a process that ended without a message."""


def killed_for_memory(error: str, advice: str = LESS_TRAINING) -> str | None:
    """Return what became of a process that was killed for memory ("was killed by ...; do ...").

    None if Ray's error does not say so.
    """
    if killed := _KILLED_BY_RAY.search(error):
        return (
            f"was killed by Ray's memory monitor: it held {killed['own']}, and {killed['used']} of the "
            f"machine's {killed['all']} were in use; {advice}"
        )
    if _KILLED_BY_SYSTEM.search(error):
        return (
            "was killed without a message, as the system does when memory runs out; if that is the "
            f"reason, {advice}"
        )
    return None


@contextmanager
def lost_workers(stage: str, advice: str = LESS_WORK) -> Iterator[None]:
    """Raise FailedError, in a line, where Ray gives up on a worker of `stage` that was lost."""
    try:
        yield
    except (RayActorError, WorkerCrashedError, OutOfMemoryError) as error:
        text = str(error)
        why = killed_for_memory(text, advice) or f"was lost ({text.strip().splitlines()[-1]})"
        raise FailedError(f"{stage}: a worker process {why}; the same command continues") from None
