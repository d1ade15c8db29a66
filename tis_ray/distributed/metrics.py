"""Metrics of a study, through Ray's own: Prometheus finds them where it finds Ray's.

The driver counts what workers report with each shard and trial: a worker's own counts would be lost with it, as Ray
exports them every ten seconds and a worker may live shorter. Workers of Ray Train, which live long, count
themselves. Ray puts `ray_` before each name and labels of its own (`NodeAddress`, `WorkerId`, ...) beside ours.
`METRICS` lists them all; docs/monitoring.md says what they are for.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ray.util.metrics import Counter, Gauge

from tis_ray.batches.seen import seen
from tis_ray.log import Activity
from tis_ray.store import written

BY_NODE = ("study", "stage", "node")
BY_UNIT = ("study", "stage", "unit")


class Metric(NamedTuple):
    """What a metric is: a count that only grows, or a level; what it says, and by which labels."""

    kind: Literal["counter", "gauge"]
    what: str
    labels: tuple[str, ...] = BY_NODE


METRICS = {
    "rows": Metric("counter", "rows that workers have finished"),
    "tokens": Metric("counter", "tokens that a language model has read, without padding"),
    "shards": Metric("counter", "shards that workers have finished"),
    "busy_seconds": Metric("counter", "seconds that workers worked on shards"),
    "written_bytes": Metric("counter", "bytes of files that were written"),
    "starts": Metric("counter", "worker processes that began to work"),
    "restarts": Metric("counter", "workers that were started again after they were lost"),
    "retries": Metric(
        "counter", "work done again: batches in halves for want of memory, cells that failed once"
    ),
    "quarantined": Metric("counter", "rows that could not be used"),
    "failures": Metric("counter", "stages and cells that failed"),
    "units_left": Metric("gauge", "shards, cells, steps or rows that are not done", BY_UNIT),
    "units_planned": Metric("gauge", "shards, cells, steps or rows that there are", BY_UNIT),
    "nodes": Metric("gauge", "nodes of the cluster that are alive", ("study",)),
}
"""All that there are, by name: Prometheus has `rows` as `ray_tis_ray_rows_total`, and `nodes` as `ray_tis_ray_nodes`."""


def prometheus_name(name: str) -> str:
    """Return the name that a metric has in Prometheus."""
    return f"ray_tis_ray_{name}" + ("_total" if METRICS[name].kind == "counter" else "")


@dataclass
class _Told:
    """What of this process's own counts has been told."""

    tokens: int = 0
    retries: int = 0
    written_bytes: int = 0


_told = _Told()


def done_since() -> dict[str, int]:
    """Return what this process has read, done again and written since the last call, by the names of counters."""
    now = _Told(seen.tokens, seen.halved, written.bytes)
    more = {name: value - getattr(_told, name) for name, value in vars(now).items()}
    vars(_told).update(vars(now))
    return more


@dataclass
class StageMetrics:
    """What one process says of one stage of one study."""

    study: str
    stage: str
    _made: dict[str, Counter | Gauge] = field(default_factory=dict, init=False)

    def add(self, amounts: Mapping[str, float], node: str) -> None:
        """Add to counters, by their names, what was done on a node."""
        labels = {"study": self.study, "stage": self.stage, "node": node}
        for name, amount in amounts.items():
            if amount > 0:  # Ray refuses to count nothing
                counter = self._get(name)
                assert isinstance(counter, Counter)
                counter.inc(amount, labels)

    def add_here(self, amounts: Mapping[str, float]) -> None:
        """Add what was done on this machine."""
        self.add(amounts, socket.gethostname())

    def set(self, name: str, level: float, **labels: str) -> None:
        """Set a gauge; labels are those that it has beside study and stage."""
        gauge = self._get(name)
        assert isinstance(gauge, Gauge)
        own = {"study": self.study, "stage": self.stage} | labels
        gauge.set(level, {label: own[label] for label in METRICS[name].labels})

    def _get(self, name: str) -> Counter | Gauge:
        if name not in self._made:
            kind, what, labels = METRICS[name]
            made = Counter if kind == "counter" else Gauge
            self._made[name] = made(f"tis_ray_{name}", what, labels)
        return self._made[name]


class StudyMetrics:
    """What the driver says of a study: it hears the study's events and watches what goes on."""

    def __init__(self, study: str) -> None:
        self.study = study
        self._stages: dict[str, StageMetrics] = {}

    def stage(self, name: str) -> StageMetrics:
        """Return the metrics of a stage."""
        return self._stages.setdefault(name, StageMetrics(self.study, name))

    def heard(self, kind: str, facts: dict[str, Any]) -> None:
        """Count what an event tells."""
        if kind == "failure":
            self.stage(facts["stage"]).add_here({"failures": 1})
        elif kind == "stage":
            lost = 0 if facts["reused"] else facts["quarantined"]
            self.stage(facts["stage"]).add_here({**done_since(), "quarantined": lost})

    def watched(self, activity: Activity) -> None:
        """Say how much is left of what goes on."""
        stage, unit = self.stage(activity.label), activity.unit
        if activity.total:
            stage.set("units_planned", activity.total, unit=unit)
            stage.set("units_left", activity.total - activity.done, unit=unit)
        if activity.parts_total:
            stage.set("units_planned", activity.parts_total, unit=activity.part)
            stage.set("units_left", activity.parts_total - activity.parts, unit=activity.part)

    def nodes(self, alive: int) -> None:
        """Say how many nodes there are."""
        self.stage("").set("nodes", alive)
