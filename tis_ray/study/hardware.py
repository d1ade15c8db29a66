"""What a study would take on GPUs that are not there, and the memory that it needs of one.

The rates stand in `hardware.yaml` with their origin; each is a vendor's peak times an assumed share of it
until somebody has measured it, and whoever shows a number shows that too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

import yaml

from tis_ray.config import Config
from tis_ray.store import read_text
from tis_ray.study.driver import driver_gigabytes
from tis_ray.study.measured import Measured
from tis_ray.study.sample import methods_of
from tis_ray.study.stage_prices import StagePrice

TABLE = Path(__file__).with_name("hardware.yaml")
COUNTS = (1, 8)
"""How many of a device are priced."""
SMALL = 3e8
"""Parameters below which a GPU waits for its host, which launches what it computes."""
ACTIVATION = 17
"""Numbers that a layer keeps for a token and unit of width until the gradient has passed, without
recomputation and without the matrix of attention (Korthikanti et al. 2022, section 4.1: 34 bytes at two each)."""


class Share(TypedDict):
    """A share of the peak: what is expected, and how far it may be off."""

    low: float
    expected: float
    high: float


class Device(TypedDict):
    """A GPU: peak of dense bf16, memory and its bandwidth, and who says so."""

    name: str
    teraflops: float
    gigabytes: float
    gigabytes_per_second: float
    source: str


class Rates(TypedDict):
    """`hardware.yaml`."""

    date: str
    peak_is: str
    utilisation: Share
    utilisation_is: str
    read_utilisation: float
    read_utilisation_is: str
    devices: list[Device]


@dataclass(frozen=True)
class Memory:
    """What one actor needs, in GB. host: of the process that measured, and the weights where it could not
    load them. gpu: of a GPU, computed: weights, what training keeps of adapters or weights (gradients and Adam's moments), activations of a
    batch, and the moments of each checkpoint that LESS's gradients are scaled by. driver: of the driver. words:
    what of that BM25 makes of the whole pool."""

    host: float
    weights: float
    training: float
    activations: float
    moments: float
    driver: float = 0.0
    words: float = 0.0

    @property
    def gpu(self) -> float:
        """Everything on the GPU together."""
        return self.weights + self.training + self.activations + self.moments


@dataclass(frozen=True)
class OnHardware:
    """The wall hours of a study on so many of a device; low and high by the range of the assumed share.

    fits: whether the memory of one suffices for what an actor needs.
    """

    device: str
    count: int
    hours: float
    low: float
    high: float
    fits: bool


@cache
def rates() -> Rates:
    """Return the table of rates."""
    found: Rates = yaml.safe_load(read_text(TABLE))
    return found


def memory_of(config: Config, facts: Measured, rows: float = 0.0) -> Memory:
    """Return what an actor needs, for the model that is fine-tuned, and the driver of a pool of so many rows."""
    model = facts["model"]
    kept = 0
    for method in methods_of(config):
        warmup = method.warmup(config.settings_of(method))
        kept = max(kept, warmup.passes if warmup is not None else 0)
    tokens = max(config.batch.tokens, config.finetune.micro_tokens or 0, config.data.max_length)
    layer = ACTIVATION * model["hidden"] * model["layers"] * model["bytes_each"]
    logits = 2 * 4 * model["vocabulary"]  # and their gradient, in float32
    weights = model["parameters"] * model["bytes_each"] / 1e9
    words = rows * max(facts["held"].values(), default=0.0) / 1e9
    return Memory(
        host=facts["peak_mb"] / 1000 + (0 if facts["sample"] else weights),
        weights=weights,
        training=3 * 4 * model["trained"] / 1e9,
        activations=tokens * (layer + logits) / 1e9,
        moments=kept * 2 * 4 * model["adapter"] / 1e9,
        driver=driver_gigabytes(rows) + words,
        words=words,
    )


def on_hardware(
    stages: Sequence[StagePrice], parameters: float, memory: Memory | None
) -> list[OnHardware]:
    """Return what the stages that a language model computes would take on each device of the table.

    Nothing for a model with fewer parameters than `SMALL`: there the rates say nothing.
    """
    if parameters < SMALL:
        return []
    table = rates()
    flops = sum(stage.flops for stage in stages)
    read = sum(stage.reads for stage in stages)
    found = []
    for device in table["devices"]:
        bandwidth = 1e9 * device["gigabytes_per_second"] * table["read_utilisation"]
        hours = {
            share: (flops / (1e12 * device["teraflops"] * part) + read / bandwidth) / 3600  # type: ignore[operator]
            for share, part in table["utilisation"].items()
        }
        fits = memory is None or memory.gpu <= device["gigabytes"]
        found += [
            OnHardware(
                device["name"],
                count,
                hours["expected"] / count,
                hours["high"] / count,  # the highest share takes the least time
                hours["low"] / count,
                fits,
            )
            for count in COUNTS
        ]
    return found
