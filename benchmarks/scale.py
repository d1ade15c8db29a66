"""100 queries x 20,000,000 candidates on disk, selected through the real stage.

8 GB of scores in 20 files, two actors. Each process's peak is its VmHWM, which counts the pages of
mapped files too. A selector's seconds are wall time; reading the files once to check them is told
apart.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.score_shards import counted, local_ray, megabytes, peaks, size, write_scores
from tis_ray.distributed.held_scores import hold_scores

QUERIES, CANDIDATES, SHARDS = 100, 20_000_000, 20
BUDGET = 100_000
ACTORS = 2
SELECTORS = ("round_robin", "doubly_greedy", "uot")
TARGET = 3.0


def main(candidates: int = CANDIDATES) -> None:
    needed = 4 * QUERIES * candidates
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 1.25 * needed:
        sys.exit(f"scale: {megabytes(needed)} of scores, but only {megabytes(free)} free on disk")
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        refs = write_scores(Path(folder), QUERIES, candidates, SHARDS)
        print(
            f"  {QUERIES} x {candidates:,} float32 in {len(refs)} files, {megabytes(needed)}, "
            f"written in {time.monotonic() - start:.0f} s; budget {BUDGET:,}, {ACTORS} actors; "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        with local_ray(ACTORS):
            start = time.monotonic()
            with hold_scores(refs, ACTORS) as scores:
                print(f"  actors started and scores checked: {time.monotonic() - start:.1f} s")
                for name in SELECTORS:
                    start = time.monotonic()
                    with counted() as traffic:
                        ordering = scores.select(name, BUDGET)
                    wall = time.monotonic() - start
                    print(
                        f"  {name}: {wall:.1f} s, {wall - traffic.waited:.1f} s of it at the "
                        f"coordinator; {traffic}; "
                        f"the ordering itself is {megabytes(size([ordering.indices]))}",
                        flush=True,
                    )
                found = peaks()
    print("  peak memory: " + ", ".join(f"{name} {gb:.2f} GB" for name, gb in found.items()))
    most = max(found.values())
    print(
        f"  largest process {most:.2f} GB; target < {TARGET:.0f} GB: "
        f"{'met' if most < TARGET else 'MISSED'}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
