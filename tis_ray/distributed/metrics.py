"""Metrics of a stage, through Ray's own: Prometheus finds them where it finds Ray's.

Every node's agent exports what its workers count; the driver exports how much is left. All are tagged with
the study and the stage:

    tis_ray_rows            rows that workers have finished
    tis_ray_shards          shards that workers have finished
    tis_ray_busy_seconds    seconds that they worked on them
    tis_ray_starts          workers that were built: more than there are actors were started again
    tis_ray_shards_left     shards that nobody has finished
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ray.util.metrics import Counter, Gauge

TAGS = ("study", "stage")


@dataclass
class StageMetrics:
    """What one process says of one stage of one study."""

    study: str
    stage: str
    _made: dict[str, Counter] = field(default_factory=dict, init=False)
    _left: Gauge | None = field(default=None, init=False)

    def started(self) -> None:
        """Count a worker that was built."""
        self._count("starts", "workers that were built", 1)

    def finished(self, rows: int, seconds: float) -> None:
        """Count a shard that is done."""
        self._count("shards", "shards that workers have finished", 1)
        self._count("rows", "rows that workers have finished", rows)
        self._count("busy_seconds", "seconds that workers worked on shards", seconds)

    def left(self, shards: int) -> None:
        """Say how many shards nobody has finished."""
        if self._left is None:
            self._left = Gauge("tis_ray_shards_left", "shards that nobody has finished", TAGS)
        self._left.set(shards, self._tags)

    @property
    def _tags(self) -> dict[str, str]:
        return {"study": self.study, "stage": self.stage}

    def _count(self, name: str, what: str, amount: float) -> None:
        if amount <= 0:  # Ray refuses to count nothing
            return
        if name not in self._made:
            self._made[name] = Counter(f"tis_ray_{name}", what, TAGS)
        self._made[name].inc(amount, self._tags)
