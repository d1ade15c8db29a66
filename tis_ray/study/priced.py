"""The estimate for a study, as `tis_ray.study.price` makes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isnan

from tis_ray.data.files.counted import Count
from tis_ray.settings import PriceConfig
from tis_ray.study.hardware import Memory, OnHardware
from tis_ray.study.requests import NONE, Requests
from tis_ray.study.stage_prices import StagePrice


@dataclass(frozen=True)
class Price:
    """The estimate for a study.

    sample: pool rows that were trained on and featurised; encoded: that were encoded. rows: usable pool
    rows, estimated. parameters: of the model that is fine-tuned. spread: half the 95% interval of tokens per row, as a share. bucket: whether artifacts
    lie in one. refused: rows of the sample by reason; cut: share of the others that `data.max_length` cuts, with what share of tokens.
    """

    stages: list[StagePrice]
    actors: int
    threads: int
    device: str
    sample: int
    spread: float
    encoded: int = 0
    rows: Count = field(default_factory=lambda: Count.of(0))
    refused: dict[str, int] = field(default_factory=dict)
    cut: float = 0.0
    lost_tokens: float = 0.0
    memory: Memory | None = None
    hardware: list[OnHardware] = field(default_factory=list)
    parameters: float = 0.0
    money: PriceConfig = field(default_factory=PriceConfig)
    bucket: bool = False

    @property
    def seconds(self) -> float:
        """Wall time, with every actor busy."""
        return sum(stage.wall(self.actors) for stage in self.stages)

    @property
    def driver_seconds(self) -> float:
        """What of that the driver takes by itself, whatever the number of actors."""
        return sum(stage.driver for stage in self.stages)

    @property
    def requests(self) -> Requests:
        """What is asked of a bucket, if artifacts lie in one."""
        return sum((stage.requests for stage in self.stages), NONE)

    @property
    def cores(self) -> int:
        """What each actor has of that which is paid by the hour: one GPU, or its CPU cores."""
        return 1 if self.device == "cuda" else self.threads

    @property
    def device_hours(self) -> float:
        """GPU-hours, or CPU-core-hours without a GPU."""
        return sum(stage.seconds for stage in self.stages) * self.cores / 3600

    @property
    def gigabytes(self) -> float:
        """What is written."""
        return sum(stage.gigabytes for stage in self.stages)

    @property
    def an_hour(self) -> float | None:
        """What an hour of a GPU, or of a core, costs; None if that was not said."""
        return self.money.gpu_hour if self.device == "cuda" else self.money.cpu_hour

    def to_json(self) -> dict[str, object]:
        """Return plain values; docs/price.md says what they are."""
        paid, month, requests = self.an_hour, self.money.storage_gb_month, self.requests
        return {
            "device": self.device,
            "actors": self.actors,
            "threads": self.threads,
            "seconds": _known(self.seconds),
            "driver_seconds": self.driver_seconds,
            "device_hours": _known(self.device_hours),
            "gigabytes": _known(self.gigabytes),
            "cost": None if paid is None else _known(self.device_hours * paid),
            "storage_a_month": None if month is None else _known(self.gigabytes * month),
            "requests": {
                "bucket": self.bucket,
                "writes": round(requests.writes),
                "reads": round(requests.reads),
                "cost": requests.cost(self.money),
            },
            "currency": self.money.currency,
            "stages": {
                stage.stage: {
                    "rows": stage.rows,
                    "tokens": stage.tokens,
                    "seconds": _known(stage.wall(self.actors)),
                    "driver_seconds": stage.driver,
                    "device_hours": _known(stage.seconds * self.cores / 3600),
                    "gigabytes": _known(stage.gigabytes),
                }
                for stage in self.stages
            },
            "pool": {
                "rows": round(self.rows.rows),
                "low": round(self.rows.low),
                "high": round(self.rows.high),
                "sampled": self.encoded,
                "refused": self.refused,
                "cut": self.cut,
                "lost_tokens": self.lost_tokens,
                "tokens_spread": self.spread,
            },
            "measured_rows": self.sample,
            "memory": None if self.memory is None else asdict(self.memory),
            "hardware": [asdict(each) for each in self.hardware],
        }


def _known(value: float) -> float | None:
    return None if isnan(value) else value
