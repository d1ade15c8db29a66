"""The price of a study before it is run: measured on a few rows, extrapolated to all.

No row is stored, and of a large pool only a sample is read: how many rows there are is counted where that
is quick and estimated where it is not. A thousand rows are encoded, some of them trained on, featurised
and evaluated; everything else is multiplication. Where no cluster is named, that is done in this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from transformers.utils import logging as transformers_logging

from tis_ray.config import Config, plan, require_test
from tis_ray.data.files.counted import Count
from tis_ray.data.sampled import SideSample, sample_side
from tis_ray.distributed.connect import IN_JOB, Cluster, connect
from tis_ray.distributed.quiet import quiet_ray
from tis_ray.distributed.task import run_task
from tis_ray.errors import InputError
from tis_ray.storage import is_remote
from tis_ray.store import find_json, fingerprint, write_json
from tis_ray.store.sides import SIDES, SideName
from tis_ray.study.hardware import memory_of, on_hardware
from tis_ray.study.measured import Measured
from tis_ray.study.priced import Price
from tis_ray.study.result import MEASURED, Until
from tis_ray.study.sample import measure_sample, methods_of
from tis_ray.study.stage_prices import StagePrice, stage_prices, tokens_of

ROWS = 1000
"""Pool rows of the sample."""
OTHERS = 200
"""Query and test rows of it."""
FILE = "price.json"
"""The estimate in a run's folder."""


def price(
    config: Config,
    tell: Callable[[str], None] = lambda what: None,
    start: float | None = None,
    until: Until = "report",
) -> Price:
    """Measure a sample and return what all studies of a file would cost; each one's is left in its folder.

    Studies that train and read with the same models and settings are measured once. `tell` hears, now
    and then, what is being done. start: seconds that a process takes to load what computes, if they
    are known. until: how far the run goes; up to the selection no test rows are needed.
    """
    if until in MEASURED:
        require_test(config)
    start = _seconds_to_start(tell) if start is None else start
    sides: dict[str, SideSample] = {}
    measured: dict[str, Measured] = {}
    prices = []
    for study in plan(config).values():
        own: dict[SideName, SideSample] = {}
        for side in SIDES:
            if side not in study.data.sides:
                own[side] = own["query"]  # the answers of something are measured
                continue
            source = study.data.side(side)
            key = fingerprint([side, source.model_dump(mode="json")])
            if key not in sides:
                tell(f"sampling data.{side}")
                sides[key] = sample_side(source, side, ROWS if side == "pool" else OTHERS)
            own[side] = sides[key]
            if not own[side].usable:
                why = ", ".join(f"{count} {reason}" for reason, count in own[side].refused.items())
                raise InputError(
                    f"data.{side}: no row of a sample of {len(own[side].rows)} is usable: {why}; "
                    "`tis-ray preview` shows them"
                )
        cluster = _cluster(study)
        if (key := _measured_by(study)) not in measured:
            found = _measure(study, own, cluster, tell)
            found["start"] = start
            found["refused"] = {**own["pool"].refused, **found["refused"]}
            measured[key] = found
        counts = {side: sample.usable_rows for side, sample in own.items()}
        prices.append(estimate(study, counts, measured[key], cluster, until in MEASURED))
        write_json(study.run_dir / FILE, prices[-1].to_json())
    return total_price(prices)


def kept_price(config: Config) -> dict[str, object] | None:
    """Return the estimate that a dry run of one study left; None where there was none."""
    found: dict[str, object] | None = find_json(config.run_dir / FILE)
    return found


def _measure(
    study: Config,
    sides: Mapping[SideName, SideSample],
    cluster: Cluster,
    tell: Callable[[str], None],
) -> Measured:
    rows = {side: sample.usable for side, sample in sides.items()}
    if not _is_remote(study):
        with warnings.catch_warnings(action="ignore"), _without_bars():
            return measure_sample(study, rows, cluster.device, tell)
    tell("measuring on the cluster")
    with quiet_ray():
        return run_task("measuring a sample", cluster, measure_sample, study, rows, cluster.device)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hold back the bars of transformers, which it draws for each model that is loaded."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _is_remote(config: Config) -> bool:
    return bool(config.compute.address or os.environ.get("RAY_ADDRESS") or IN_JOB in os.environ)


def _cluster(config: Config) -> Cluster:
    """Return the cluster that the study would have: its own, or what Ray would find on this machine."""
    if _is_remote(config):
        return connect(config)
    cpus, gpus, threads = (
        os.cpu_count() or 1,
        torch.cuda.device_count(),
        config.batch.threads,
    )
    each = config.compute.gpus_per_actor
    each = (1.0 if gpus else 0.0) if each is None else each
    room = min([cpus // threads, *([int(gpus / each)] if each else [])])
    if room < 1:
        raise InputError(
            f"compute: one actor needs {threads} CPU(s) and {each:g} GPU(s), and this machine has "
            f"{cpus} and {gpus}; lower batch.threads or compute.gpus_per_actor"
        )
    return Cluster(cpus, gpus, threads, each, min(config.compute.actors or room, room))


def _seconds_to_start(tell: Callable[[str], None]) -> float:
    """Return how long a process takes until it can load a model, as each actor does."""
    tell("starting a process, as each actor is started")
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import tis_ray.study.sample"], check=True)
    return time.monotonic() - start


def _measured_by(config: Config) -> str:
    """Return what names a measurement: all that decides seconds, widths and bytes."""
    return fingerprint(
        {
            "pool": tokens_of(config),
            "batch": config.batch.model_dump(mode="json"),
            "finetune": config.finetune.model_dump(
                mode="json", include={"method", "lora", "micro_tokens", "packed"}
            ),
            "methods": [
                method.identity(config.settings_of(method)) for method in methods_of(config)
            ],
            "overlap": config.overlap.model_dump(mode="json"),
            "answers": config.evaluation.model_dump(
                mode="json", include={"metrics", "tasks", "max_new_tokens"}
            ),
        }
    )


def estimate(
    config: Config,
    counts: Mapping[SideName, Count],
    facts: Measured,
    cluster: Cluster,
    trained: bool = True,
) -> Price:
    """Extrapolate the measurement of a sample to all rows of one study; counts are of readable rows.

    trained: whether models are fine-tuned on what is selected.
    """
    rows = counts["pool"].times(facts["usable"], of=facts["encoded"])
    usable = {side: round(count.rows) for side, count in {**counts, "pool": rows}.items()}
    stages = stage_prices(config, usable, facts, cluster.actors, trained)
    memory = memory_of(config, facts, rows.rows)
    return Price(
        stages,
        cluster.actors,
        cluster.threads,
        cluster.device,
        facts["sample"],
        facts["spread"],
        facts["encoded"],
        rows,
        facts["refused"],
        facts["cut"],
        facts["lost_tokens"],
        memory,
        on_hardware(stages, facts["model"]["parameters"], memory),
        facts["model"]["parameters"],
        config.price,
        is_remote(config.artifacts),
    )


def total_price(prices: Sequence[Price]) -> Price:
    """Return the price of several studies, in which what some have in common is made once."""
    made: set[str] = set()
    stages: dict[str, StagePrice] = {}
    for stage in (stage for each in prices for stage in each.stages):
        if stage.made_from is not None:
            if stage.made_from in made:
                continue
            made.add(stage.made_from)
        before = stages.get(stage.stage)
        stages[stage.stage] = stage if before is None else before + stage
    together = replace(prices[0], stages=list(stages.values()))
    hardware = on_hardware(together.stages, together.parameters, together.memory)
    return replace(together, hardware=hardware)
