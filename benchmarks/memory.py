"""Peak memory of featurising, for more and more rows: it must not grow with the pool.

A child process streams pool rows shard by shard through `Less.features` into a feature store, as an
actor of the featurisation stage does. The figure is VmHWM, the process's own ru_maxrss (which
itself starts at the size of the parent); where there is no /proc, it is ru_maxrss.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.lab import checkpoint, encoded, machine, quiet
from benchmarks.timing import spread
from tis_ray.data import builtin, content_id
from tis_ray.log import peak_mb
from tis_ray.models.loading import load_model
from tis_ray.representations.less import LessSettings
from tis_ray.representations.less.features import Gradients, Less
from tis_ray.settings import BatchConfig, ModelConfig
from tis_ray.store.feature_store import FeatureShard, FeatureStore

SHARD_ROWS = 128
ROWS = 256
TIMES = (1, 4, 16)
REPEATS = 3
TARGET = 1.10


def main() -> None:
    quiet()
    print(f"  {machine()}")
    held = max(TIMES) * ROWS * LessSettings().sketch.width * 4 / 2**20
    print(
        f"  built-in model, shards of {SHARD_ROWS} rows; {REPEATS} interleaved repeats, each a new "
        f"process; all features of the largest pool are {held:.0f} MiB"
    )
    with checkpoint(ModelConfig()) as path:
        found: dict[int, list[tuple[float, float]]] = {times: [] for times in TIMES}
        for _ in range(REPEATS):
            for times in TIMES:
                found[times].append(_in_child(path, times * ROWS))
    for times in TIMES:
        peaks, loaded = [peak for peak, _ in found[times]], [before for _, before in found[times]]
        print(
            f"  {times:>2} x {ROWS} rows: peak {statistics.median(peaks):.0f} MiB "
            f"[{min(peaks):.0f}, {max(peaks):.0f}], {statistics.median(loaded):.0f} MiB before the "
            "first shard",
            flush=True,
        )
    for times in TIMES[1:]:
        growth = [a[0] / b[0] for a, b in zip(found[times], found[1], strict=True)]
        met = "met" if statistics.median(growth) <= TARGET else "MISSED"
        print(f"  {times} x rows ÷ 1 x: {spread(growth)}; target <= {TARGET:.2f}: {met}")


def _in_child(path: Path, rows: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.memory", str(path), str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peak, before = map(float, done.stdout.split())
    return peak, before


def _featurise(path: Path, rows: int) -> None:
    """What the child does: print its peak memory in MiB, and the peak before the first shard."""
    quiet()
    torch.set_num_threads(1)
    model, config = ModelConfig(), LessSettings()
    less = Less(Gradients(load_model(model), config, BatchConfig(), [path]))
    before, stream = _peak_mib(), builtin.iter_pool_rows(rows, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder, {"representation": "less"})
        while raw := list(islice(stream, SHARD_ROWS)):
            shard = encoded(model, raw)
            found = less.features(shard, "pool")
            counts = np.array([sum(t != -100 for t in row["labels"]) for row in shard], np.int32)
            columns = {**found.columns, "response_tokens": counts}
            keys = [content_id(row) for row in raw]
            store.write(
                "pool",
                FeatureShard(keys, found.values_ECK, found.unusable, columns),
                config.dtype,
            )
    print(_peak_mib(), before)


def _peak_mib() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return peak_mb()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _featurise(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
