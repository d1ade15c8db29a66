"""Recovery from running out of memory: a batch that does not fit is halved, and halved again.

Memory is planned by tokens, but what a token needs depends on the model, the device and what else
is using it. Each example's result is its own, so a smaller batch gives the same numbers (up to the
rounding of its sums, about 1e-6 relative).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch

from tis_ray.batches.seen import seen
from tis_ray.errors import InputError


def in_halves(members: Sequence[int], work: Callable[[list[int]], None]) -> None:
    """Call `work(members)`; when it runs out of memory, call it for each half instead, in order.

    `work` must be repeatable: whatever a failed call left behind is overwritten by the next.
    Raises InputError when a single member does not fit.
    """
    try:
        work(list(members))
        seen.rows += len(members)
        return
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "out of memory"
    # Out here the exception is gone, and with it the frames that held the batch's tensors.
    if len(members) == 1:
        raise InputError(
            f"a single example does not fit into memory ({reason}); "
            "lower data.max_length, or use a device with more memory"
        )
    seen.halved += 1
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(members) // 2
    in_halves(members[:middle], work)
    in_halves(members[middle:], work)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out, on a GPU or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's CPU allocator has no exception type of its own.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
