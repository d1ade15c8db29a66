"""What 10^7, 10^8 and 10^9 rows take, by the model behind the dry run: actors, hours, requests, money.

The model is of the shape of Llama 7B and stands on no machine here: its hours are those of the table of other
hardware. What needs no model (tokens, the screen, products of features) is measured on this machine, in CPU time;
the driver's share and the requests follow the rates of `tis_ray/study/driver.yaml`.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from transformers import AutoTokenizer, LlamaConfig

from benchmarks.lab import quiet
from benchmarks.predict import facts_by_cpu_time
from tis_ray.config import Config, parse_config
from tis_ray.data.files.counted import Count
from tis_ray.distributed.connect import Cluster
from tis_ray.models.builtin import PATH
from tis_ray.study.measured import Measured
from tis_ray.study.price import estimate
from tis_ray.study.priced import Price

ROWS = (10**7, 10**8, 10**9)
SHARDS = (256, None)
"""`batch.shard_rows`; None: by the pool."""
DEVICE, A_DAY = "H100", 24.0
METHODS = ("rds", "less")
PRICES = {
    "gpu_hour": 2.5,
    "cpu_hour": 0.04,
    "storage_gb_month": 0.02,
    "writes_1000": 0.005,
    "reads_1000": 0.0004,
}


def plan(model: Path, method: str, shard_rows: int | None) -> Config:
    """Return a study up to its selection, with everything in a bucket."""
    few = {"kind": "builtin", "skill": "reverse_word", "rows": 100}
    return parse_config(
        {
            "name": "on-paper",
            "artifacts": "s3://bucket/artifacts",
            "model": {"name": str(model), "dtype": "bfloat16"},
            "data": {
                "pool": {"kind": "builtin", "rows": 1000},
                "query": few,
                "test": few,
                "max_length": 2048,
            },
            "representation": method,
            "less": {"warmup": {"share": 1e-4, "epochs": 4}, "dtype": "int8"},
            "budget": 100_000,
            "batch": {"shard_rows": shard_rows},
            "price": PRICES,
        }
    )


def line(config: Config, facts: Measured, rows: int) -> str:
    """Return a line of the table: as many GPUs as end within a day, beside what the driver takes."""
    counts = {"pool": Count.of(rows), "query": Count.of(100), "test": Count.of(0)}
    price = estimate(config, counts, facts, Cluster(1, 0, 1, 0, 1), trained=False)
    gpu_hours = next(e.hours for e in price.hardware if (e.device, e.count) == (DEVICE, 1))
    driver_hours = price.driver_seconds / 3600
    left = A_DAY - driver_hours
    actors = math.ceil(gpu_hours / left) if left > 0 else 0
    hours = f"{gpu_hours / actors + driver_hours:.1f}" if actors else f"> {driver_hours:.0f}"
    requests, memory = price.requests, price.memory
    assert memory is not None
    dollars = gpu_hours * PRICES["gpu_hour"] + cores(price) * PRICES["cpu_hour"]
    return (
        f"| {config.representation[0]} | {rows:.0e} | {config.batch.shard_rows or 'by the pool'} | {gpu_hours:,.0f} | "
        f"{actors or 'none'} | {hours} | {cores(price):,.0f} | {driver_hours:.2f} | {memory.driver:.1f} | "
        f"{price.gigabytes:,.0f} | {requests.writes / 1e6:,.2f} + {requests.reads / 1e6:,.2f} | "
        f"{requests.cost(config.price) or 0:,.2f} | {dollars:,.0f} |"
    )


def cores(price: Price) -> float:
    """Return the core-hours of what needs no language model."""
    known = ("screen", "tokens", "scores", "orderings")
    seconds = sum(s.seconds for s in price.stages if s.stage.partition(" ")[0] in known)
    return seconds / 3600


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks on_paper", description=__doc__)
    parser.parse_args()
    quiet()
    print(
        f"| method | rows | rows a shard | {DEVICE}-hours | actors for a day | hours | core-hours | "
        "driver hours | driver GB | stored GB | requests, millions (writes + reads) | USD, requests | USD, machines |"
    )
    print("|" + " --- |" * 13)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model-7b"
        LlamaConfig(torch_dtype="bfloat16").save_pretrained(model)
        AutoTokenizer.from_pretrained(PATH).save_pretrained(model)
        for method in METHODS:
            facts = facts_by_cpu_time(plan(model, method, SHARDS[0]))
            for rows in ROWS:
                for shard_rows in SHARDS:
                    print(line(plan(model, method, shard_rows), facts, rows), flush=True)


if __name__ == "__main__":
    main()
