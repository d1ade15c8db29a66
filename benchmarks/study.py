"""All selectors at five budgets in one pass over the scores, against one selector at one budget.

Wall time through the real stage: starting two actors, mapping and checking the scores, every round,
the orderings and their prefixes. The five budgets are prefixes of one ordering for each selector.

KNN-KDE compares candidates with each other, which no pass over the scores holds: it is compared
with itself, and the seven that rank by scores alone with each of them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.score_shards import CLUSTERS, local_ray, write_scores
from benchmarks.timing import interleaved, seconds, verdict
from tis_ray.distributed.held_scores import hold_scores, select_distributed
from tis_ray.selectors import SELECTORS

QUERIES, CANDIDATES, SHARDS = 81, 197_000, 8
BUDGETS = (500, 1000, 2500, 5000, 10_000)
WIDTH = 256
ACTORS = 2
REPEATS = 5
TARGET = "<= 1.5"
BY_SCORES = tuple(name for name in SELECTORS.own if name != "knn_kde")


def parameters() -> dict[str, dict[str, Any]]:
    """Return what each selector needs beside the scores."""
    rng = np.random.default_rng(1)
    features_NK = rng.standard_normal((CANDIDATES, WIDTH), dtype=np.float32)
    features_NK /= np.linalg.norm(features_NK, axis=1, keepdims=True)
    lengths = rng.integers(10, 500, CANDIDATES)
    needed = {
        "features": features_NK,
        "groups": [query % CLUSTERS for query in range(QUERIES)],
        "lengths": lengths,
        "target": lengths,
    }
    return {name: {n: needed[n] for n in rule.needed} for name, rule in SELECTORS.own.items()}


def main() -> None:
    params = parameters()
    with tempfile.TemporaryDirectory() as folder, local_ray(ACTORS):
        refs = write_scores(Path(folder), QUERIES, CANDIDATES, SHARDS)

        def one(name: str) -> None:
            select_distributed(refs, name, BUDGETS[0], ACTORS, **params[name])

        inside: dict[str, list[float]] = {name: [] for name in SELECTORS.own}

        def together(names: Iterable[str]) -> None:
            with hold_scores(refs, ACTORS) as scores:
                for name in names:
                    start = time.monotonic()
                    ordering = scores.select(name, max(BUDGETS), **params[name])
                    for budget in BUDGETS:
                        ordering.prefix(budget)
                    inside[name].append(time.monotonic() - start)

        one("round_robin")  # the first workers of a cluster start more slowly
        works = {name: partial(one, name) for name in SELECTORS.own}
        works |= {
            "all": partial(together, list(SELECTORS.own)),
            "by scores": partial(together, BY_SCORES),
        }
        times = interleaved(works, REPEATS, time.monotonic)
    print(
        f"  {QUERIES} x {CANDIDATES:,} in {SHARDS} files, {ACTORS} actors, {len(SELECTORS.own)} selectors, "
        f"budgets {', '.join(f'{b:,}' for b in BUDGETS)}; {REPEATS} interleaved repeats; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for name in SELECTORS.own:
        print(
            f"  {name}: alone, with the start of the actors, {seconds(statistics.median(times[name]))}; "
            f"within the study {seconds(statistics.median(inside[name]))}"
        )
    for name in BY_SCORES:
        verdict(f"all but knn_kde ÷ {name} alone", times["by scores"], times[name], TARGET)
    verdict("all ÷ knn_kde alone", times["all"], times["knn_kde"], TARGET)


if __name__ == "__main__":
    main()
