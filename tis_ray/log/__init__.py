"""What a run reports: lines and signs of life for people, `events.jsonl` and `live.json` for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tis_ray.log.activity import Activity

if TYPE_CHECKING:
    from tis_ray.log.run_log import RunLog, Said, peak_mb

__all__ = ["Activity", "RunLog", "Said", "peak_mb"]


def __getattr__(name: str) -> Any:
    """Import on first use: who only reads `live.json` does without what the costs of stages need."""
    if name in __all__:
        from tis_ray.log import run_log

        return getattr(run_log, name)
    raise AttributeError(f"module 'tis_ray.log' has no attribute {name!r}")
