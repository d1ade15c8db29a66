"""Watching a study while it runs: nodes that come and go, metrics, failures, and what workers work for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event

from ray.exceptions import RaySystemError, RpcError

from tis_ray.background import in_background
from tis_ray.distributed.every_node import alive, name_of
from tis_ray.distributed.metrics import StageMetrics, StudyMetrics, done_since
from tis_ray.distributed.worker_logs import Work, WorkerLog, finish_logs
from tis_ray.errors import failure_line
from tis_ray.log import RunLog
from tis_ray.log.json_lines import lines_are_json

OFTEN = 2.0
"""Seconds between two looks at the nodes."""
_log: ContextVar[RunLog | None] = ContextVar("log", default=None)
_work: ContextVar[Work | None] = ContextVar("work", default=None)


@contextmanager
def observed(log: RunLog) -> Iterator[None]:
    """While the block runs, record nodes that come and go, and count for Prometheus what is recorded."""
    metrics = StudyMetrics(log.study)
    log.hears.append(metrics.heard)
    log.watches.append(metrics.watched)
    token = _log.set(log)
    known = _alive()

    def watch(stop: Event) -> None:
        nonlocal known
        while not stop.wait(OFTEN):
            try:
                now = _alive()
            except (RaySystemError, RpcError):  # the head is away; `head` says so
                continue
            _tell(log, known, now)
            known = now
            metrics.nodes(len(now))  # Ray exports a level only for as long as it is told

    try:
        with in_background(watch):
            yield
    finally:
        _log.reset(token)
        log.watches.remove(metrics.watched)
        log.hears.remove(metrics.heard)


def current_log() -> RunLog | None:
    """Return the log of the study that this thread runs; None where it runs none, as in a worker."""
    return _log.get()


def current_work() -> Work | None:
    """Return what this thread works for: the stage that goes on, or in a worker what it was started for."""
    log = _log.get()
    return _work.get() if log is None else work_of(log, log.stage or log.study)


@contextmanager
def working(work: Work | None, what: str) -> Iterator[None]:
    """In a worker: let the block work for a stage, and keep what it prints. Without `work` it just runs."""
    if work is None:
        yield
        return
    token = _work.set(work)
    try:
        with WorkerLog(work).kept(what):
            yield
    finally:
        _work.reset(token)


@contextmanager
def counting(work: Work | None) -> Iterator[None]:
    """In a worker that reports nothing to the driver: count what the block does, while it does it."""
    if work is None:
        yield
        return
    metrics = StageMetrics(work.study, work.stage)

    def count(stop: Event) -> None:
        while not stop.wait(OFTEN):
            metrics.add_here(done_since())

    with in_background(count):
        yield
    metrics.add_here(done_since())


def work_of(log: RunLog, stage: str) -> Work:
    """Return what the workers of a stage work for."""
    return Work(log.study, stage, log.run_dir, lines_are_json())


@contextmanager
def failing(log: RunLog, work: Work) -> Iterator[None]:
    """Record a stage that fails, with the logs of its workers that say why."""
    try:
        yield
    except Exception as error:
        log.event("failure", stage=work.stage, error=failure_line(error), logs=finish_logs(work))
        raise


def _alive() -> dict[str, str]:
    """Return the names of the nodes that are alive, by their ids."""
    return {node["NodeID"]: name_of(node) for node in alive()}


def _tell(log: RunLog, before: dict[str, str], now: dict[str, str]) -> None:
    came = [(now[node], "joined") for node in now.keys() - before.keys()]
    went = [(before[node], "left") for node in before.keys() - now.keys()]
    for name, change in [*came, *went]:
        log.event("node", node=name, change=change, nodes=len(now), stage=log.stage)
        log.say(f"node {name} {change}; {len(now)} node(s) now")
