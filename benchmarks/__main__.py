"""Run every benchmark: `python -m benchmarks`."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import features, round_robin, selectors

for benchmark in (features, round_robin, selectors):
    benchmark.main()
