"""Running trials with Ray Tune: one for each order, tried twice, with nothing left behind."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from tis_ray.distributed.heap import return_freed_memory
from tis_ray.distributed.interrupted import interruptible
from tis_ray.distributed.metrics import StageMetrics, done_since
from tis_ray.distributed.observed import current_log, current_work, working
from tis_ray.distributed.scratch import ray_storage
from tis_ray.distributed.worker_logs import Work, begin_logs, finish_logs
from tis_ray.errors import failure_line
from tis_ray.log import RunLog
from tis_ray.storage import Place, remove_folder

Order = TypeVar("Order")
"""What a trial is to do. Small; it is pickled."""
DID, NODE = "did", "node"
"""What each report says beside its metrics: what the process did, by the names of counters, and where."""


def run_trials(
    name: str,
    work: Callable[[Order], None],
    orders: Mapping[str, Order],
    root: Place,
    *,
    resources: Mapping[str, float],
    at_once: int,
    scheduler: TrialScheduler | None = None,
) -> dict[str, str]:
    """Run `work(order)` as a trial for each order; return the errors of those that failed, by name.

    at_once: the most trials at a time. scheduler: may stop trials early, by what they report.
    """
    folder = root / "ray-tune"
    log, logs = current_log(), current_work()
    if logs is not None:
        begin_logs(logs)
    trainable = tune.with_parameters(_run_order, work=work, orders=dict(orders), logs=logs)
    tuner = tune.Tuner(
        tune.with_resources(trainable, dict(resources)),
        param_space={"order": tune.grid_search(list(orders))},
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            max_concurrent_trials=at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            **ray_storage(folder),
            verbose=0,
            # With verbose=0 it says nothing; the default one would clear a notebook's output.
            progress_reporter=tune.CLIReporter(),
            failure_config=tune.FailureConfig(max_failures=1),
            callbacks=[] if logs is None else [_Recorded(logs)],
        ),
    )
    with interruptible():
        results = [result.error for result in tuner.fit()]
    remove_folder(folder / name)
    errors = {name: error for name, error in zip(orders, results, strict=True) if error is not None}
    if errors and log is not None and logs is not None:
        _record(errors, log, logs)
    return {name: str(error) for name, error in errors.items()}


def _record(errors: Mapping[str, Exception], log: RunLog, work: Work) -> None:
    """Record trials that have failed twice, with the logs that say why."""
    telling = finish_logs(work)
    for name, error in errors.items():
        line = failure_line(error)
        log.event("failure", stage=work.stage, order=name, error=line, logs=telling)


def report_trial(metrics: Mapping[str, float]) -> None:
    """Report a trial's metrics to Ray Tune, with what its process has done since the last report."""
    tune.report({**metrics, DID: done_since(), NODE: socket.gethostname()})


class _Recorded(tune.Callback):
    """Counts what trials report, and records those that are tried again. Tune pickles it: it holds no log."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Count what a trial has done."""
        if DID in result:
            _metrics(self.work.study, self.work.stage).add(result[DID], result[NODE])

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Record a trial that is tried again."""
        _metrics(self.work.study, self.work.stage).add_here({"retries": 1})
        log = current_log()
        if log is not None:
            log.event("retry", stage=self.work.stage, order=trial.config["order"])


@cache
def _metrics(study: str, stage: str) -> StageMetrics:
    return StageMetrics(study, stage)


def asha(loss: str, epochs: int, first: int, reduction: int) -> ASHAScheduler:
    """Return ASHA over epochs: of the trials that have come equally far, the best 1/reduction go on.

    loss: the reported metric whose lowest values are best. first: epochs before any trial is stopped.
    """
    return ASHAScheduler(
        metric=loss,
        mode="min",
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(first, epochs),
        reduction_factor=reduction,
    )


def _run_order(
    trial: dict[str, str],
    work: Callable[[Order], None],
    orders: dict[str, Order],
    logs: Work | None,
) -> None:
    try:
        with working(logs, trial["order"]):
            work(orders[trial["order"]])
    finally:  # the process lives on, for the next trial
        return_freed_memory()
