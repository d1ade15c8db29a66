"""The command line: one verb per job, each a few lines over the public API.

Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

from typing import Any

from tis_ray.cli.program import main

__all__ = ["app", "main"]


def __getattr__(name: str) -> Any:
    """Import what there is to type on first use: signals are taken before."""
    if name == "app":
        from tis_ray.cli.answer import app

        return app
    raise AttributeError(f"module 'tis_ray.cli' has no attribute {name!r}")
