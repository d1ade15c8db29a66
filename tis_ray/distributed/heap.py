"""Memory that a process has freed, and the allocator keeps."""

from __future__ import annotations

import ctypes
import gc
import sys


def return_freed_memory() -> None:
    """Give back to the system what this process has freed.

    glibc has heaps of its own for a process's threads, and keeps what is freed in them for the
    thread that comes next there. An actor that runs one trial after the other, each in a new
    thread, so grows with every trial although no tensor of the last is left: by 0.15 GB for a model
    of 61M parameters, by 1.5 GB for one of 135M.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # other C libraries have no such function, and no such heaps
        trim(0)
