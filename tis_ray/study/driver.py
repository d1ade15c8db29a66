"""What the one driver of a study adds to each stage, and the requests that the stages make to a bucket.

The rates stand in `driver.yaml`, with the commands that measured them. Rows, shards and seconds are multiplied with
them: what the driver does itself no number of actors shortens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import isnan
from pathlib import Path
from typing import TypedDict

import yaml

from tis_ray.store import read_text
from tis_ray.study.requests import NONE, Requests

TABLE = Path(__file__).with_name("driver.yaml")


class Counted(TypedDict):
    """Requests of a stage, of each of its shards, and of each second that it goes on."""

    stage: float
    shard: float
    second: float


class StageRates(TypedDict):
    """What the driver takes for a stage: seconds, seconds a shard, microseconds a row; and requests."""

    seconds: float
    shard_seconds: float
    row_microseconds: float
    writes: Counted
    reads: Counted


class DriverRates(TypedDict):
    """`driver.yaml`."""

    date: str
    measured_by: str
    ingest_microseconds: float
    base_mb: float
    row_bytes: float
    scores_gigabytes_a_second: float
    cell: dict[str, float]
    stages: dict[str, StageRates]


@dataclass(frozen=True)
class DriverShare:
    """What a stage takes of the driver, in seconds, and its requests to a bucket."""

    seconds: float = 0.0
    requests: Requests = NONE


@cache
def driver_rates() -> DriverRates:
    """Return the table of rates."""
    found: DriverRates = yaml.safe_load(read_text(TABLE))
    return found


def driver_share(kind: str, rows: int, shards: int, lasts: float = 0.0) -> DriverShare:
    """Return the driver's share in a stage of so many rows and shards; `lasts`: its seconds, for looks at progress."""
    rates = driver_rates()["stages"][kind]
    seconds = rates["seconds"] + shards * rates["shard_seconds"]
    known = 0.0 if isnan(lasts) else lasts
    counts = (
        each["stage"] + shards * each["shard"] + known * each["second"]
        for each in (rates["writes"], rates["reads"])
    )
    return DriverShare(seconds + 1e-6 * rows * rates["row_microseconds"], Requests(*counts))


def cell_requests() -> Requests:
    """Return the requests of a cell: its rows, checkpoints, metrics and answers."""
    return Requests(**driver_rates()["cell"])


def driver_gigabytes(rows: float) -> float:
    """Return the memory of the driver, for a pool of so many rows, without what it reads whole."""
    rates = driver_rates()
    return (1e6 * rates["base_mb"] + rows * rates["row_bytes"]) / 1e9
