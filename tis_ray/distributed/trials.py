"""Ray Tune as the stages use it: a trial for each of some specs, tried twice, nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler

Work = Callable[[dict[str, Any]], None]


def run_trials(
    name: str,
    work: Work,
    specs: Mapping[str, dict[str, Any]],
    root: Path,
    *,
    resources: Mapping[str, float],
    at_once: int,
    **choices: Any,
) -> tune.ResultGrid:
    """Run `work(spec)` as a trial for each spec; return what became of them, in the order of `specs`.

    at_once: most trials at a time. choices: further arguments of `TuneConfig`, such as a scheduler.
    """
    folder = root / "ray-tune"
    trainable = tune.with_parameters(_run_spec, work=work, specs=dict(specs))
    tuner = tune.Tuner(
        tune.with_resources(trainable, dict(resources)),
        param_space={"spec": tune.grid_search(list(specs))},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=True, **choices),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )
    found = tuner.fit()
    shutil.rmtree(folder / name, ignore_errors=True)
    return found


def tell(metrics: dict[str, Any]) -> None:
    """Tell Ray Tune what a trial has come to."""
    tune.report(metrics)


def asha(epochs: int, first: int, reduction: int) -> ASHAScheduler:
    """Return ASHA over epochs: of the trials that have come equally far, the best 1/reduction go on."""
    return ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(first, epochs),
        reduction_factor=reduction,
    )


def _run_spec(trial: dict[str, str], work: Work, specs: dict[str, dict[str, Any]]) -> None:
    work(specs[trial["spec"]])
