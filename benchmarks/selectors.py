"""The selectors at the paper's size, 81 queries x 197,000 candidates, against what they replace.

Beside each stands its floor: one read of the scores, which no selector can do without; for KNN-KDE,
half of the product of the neighbours' features with themselves.
"""

from __future__ import annotations

import heapq
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.round_robin import masked_argmax
from benchmarks.timing import ratio
from tis_ray import select

SHAPE = (81, 197_000)
LARGE = (100, 2_000_000)  # where neither keeps anything in a cache
DENSITY_POOL = 20_000
BUDGET = 10_000
REPEATS = 3


def cosines(shape: tuple[int, int]) -> np.ndarray:
    """Return scores with the spread of LESS cosines."""
    return np.float32(0.06) * np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def floor(name: str, work: Callable[[], Any]) -> None:
    """Print the least CPU seconds of a few runs."""
    seconds = []
    for _ in range(5):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    print(f"  floor, {name}: {min(seconds):.3f} s")


def pot(scores_MN: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """UOT as the reference does it: POT's plan, its column sums, a sort; marginals in float64."""
    import ot

    marginals = [np.full(size, 1 / size, dtype) for size in scores_MN.shape]
    plan = ot.unbalanced.sinkhorn_unbalanced(
        *marginals, (1 - scores_MN) / 2, 0.01, (float("inf"), 1e-4), reg_type="kl"
    )
    return np.argsort(-plan.sum(axis=0))[:BUDGET]


def pot_single(scores_MN: np.ndarray) -> np.ndarray:
    """The same with nothing in float64: the kindest peer."""
    return pot(scores_MN, "float32")


def ours(scores_MN: np.ndarray) -> np.ndarray:
    return select(scores_MN, "uot", min(BUDGET, scores_MN.shape[1])).indices


METHODS = {
    "POT as the reference calls it": pot,
    "POT in float32 throughout": pot_single,
    "ours": ours,
}


def looped_uniform(scores_MN: np.ndarray, most: int = 5000) -> np.ndarray:
    """KNN-Uniform with all gaps added up again for each number of neighbours."""
    distances = 1 - scores_MN
    nearest = np.argpartition(distances, most - 1, axis=1)[:, :most]
    near = np.take_along_axis(distances, nearest, axis=1)
    order = np.argsort(near, axis=1)
    nearest, near = (np.take_along_axis(array, order, axis=1) for array in (nearest, near))
    count = 1
    while count < most:
        if 0.01 / 5 * (near[:, count, None] - near[:, :count]).sum() >= 0.99 * len(scores_MN):
            break
        count += 1
    votes = np.bincount(nearest[:, :count].ravel(), minlength=scores_MN.shape[1])
    return np.lexsort((np.arange(len(votes)), -votes))


def dense_kde(
    scores_MN: np.ndarray, blocks: list[np.ndarray], weights: list[float]
) -> tuple[np.ndarray, int]:
    """KNN-KDE with dense rows of similarities, a top-K of each and a heap; also how many rows."""
    queries, candidates = scores_MN.shape
    most, dense = min(5000, candidates // 10), min(1000, candidates // 10)
    distances = np.maximum(1 - scores_MN, 0)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :most]
    near = np.take_along_axis(distances, nearest, axis=1).astype(np.float64)
    union, places = np.unique(nearest, return_inverse=True)
    chosen = [block[union] for block in blocks]
    density = np.empty(len(union))
    for start in range(0, len(union), 256):
        rows = slice(start, start + 256)
        similar = sum(w * (block[rows] @ block.T) for w, block in zip(weights, chosen, strict=True))
        best = np.partition(similar, len(union) - dense, axis=1)[:, -dense:]
        density[rows] = np.maximum(0, 1 - 2 * np.maximum(1 - best, 0) / 0.75**2).sum(axis=1)
    share = 1 / density[places.reshape(nearest.shape)]

    last, cost, spent = [0] * queries, [0.0] * queries, (near * share)[:, 0].tolist()
    heap = [(share[i, 0], 0, i) for i in range(queries)]
    heapq.heapify(heap)
    total = 0.0
    while heap:
        total, k, i = heapq.heappop(heap)
        cost[i] = near[i, k + 1] * total - spent[i]
        if 0.01 / 5 * sum(cost) >= 0.99 * queries:
            break
        last[i] = k
        if k < most - 2:
            spent[i] += near[i, k + 1] * share[i, k + 1]
            heapq.heappush(heap, (total + share[i, k + 1], k + 1, i))
    found = np.zeros(candidates)
    for i, k in enumerate(last):
        found[nearest[i, : k + 1]] += share[i, : k + 1] / (queries * total)
        rest = 1 / queries - share[i, : k + 1].sum() / (queries * total)
        found[nearest[i, k + 1]] += max(rest, 0)
    return np.lexsort((np.arange(candidates), -found)), len(union)


def working_memory(scores_MN: np.ndarray, method: str) -> float:
    """Return the MiB that a fresh process needs at its peak beside the scores and its libraries."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.npy"
        np.save(file, scores_MN)
        command = [sys.executable, "-m", "benchmarks.selectors", str(file), method]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _measure(file: str, method: str) -> None:
    """What that process does. VmHWM is its own ru_maxrss: that one starts at the parent's."""
    scores_MN, run = np.load(file), METHODS[method]
    run(scores_MN[:, :2000])
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status("VmRSS")
    run(scores_MN)
    print((_status("VmHWM") - before) / 1024)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def against_pot(label: str, scores_MN: np.ndarray, repeats: int) -> None:
    for name, peer in METHODS.items():
        if peer is not ours:
            works = partial(peer, scores_MN), partial(ours, scores_MN)
            ratio(f"{label}, peer: {name}", *works, repeats)


def transport(scores_MN: np.ndarray) -> None:
    chosen = np.intersect1d(pot(scores_MN), ours(scores_MN)).size / BUDGET
    print(f"UOT: {chosen:.2%} of the {BUDGET} chosen are POT's")
    against_pot("UOT", scores_MN, 5 * REPEATS)
    floor("one read of the scores", lambda: scores_MN.max(axis=1))
    for name in METHODS:
        print(f"  peak memory beside the scores, {name}: {working_memory(scores_MN, name):.0f} MiB")
    against_pot(f"UOT, {LARGE[0]} x {LARGE[1]}", cosines(LARGE), REPEATS)


def neighbours(scores_MN: np.ndarray) -> None:
    paper = {"ties": "paper"}
    theirs = looped_uniform(scores_MN)[:BUDGET]
    mine = select(scores_MN, "knn_uniform", BUDGET, **paper).indices
    print(f"KNN-Uniform: {(theirs == mine).mean():.2%} of the ordering is the same")
    ratio(
        "KNN-Uniform, peer: gaps added up for each K",
        lambda: looped_uniform(scores_MN),
        lambda: select(scores_MN, "knn_uniform", BUDGET, **paper),
        REPEATS,
    )
    floor("one read of the scores", lambda: scores_MN.max(axis=1))


def densities() -> None:
    rng = np.random.default_rng(0)
    weights, candidates, queries, width = [0.4, 0.3, 0.2, 0.1], DENSITY_POOL, 4, 512
    kinds, blocks = rng.integers(0, candidates // 10, candidates), []
    for _ in weights:
        centres = rng.standard_normal((candidates // 10, width), dtype=np.float32)
        noise = rng.standard_normal((candidates, width), dtype=np.float32)
        block = centres[kinds] + np.float32(0.6) * noise
        blocks.append(block / np.linalg.norm(block, axis=1, keepdims=True))
    features = np.concatenate(
        [np.sqrt(np.float32(w)) * b for w, b in zip(weights, blocks, strict=True)], axis=1
    )
    scores_MN = 0.5 * features[:queries] @ features.T + 0.5 * cosines((queries, candidates))
    theirs, union = dense_kde(scores_MN, blocks, weights)
    paper = {"features": features, "ties": "paper"}
    mine = select(scores_MN, "knn_kde", BUDGET, **paper).indices
    same = np.intersect1d(mine[:1000], theirs[:1000]).size
    print(
        f"KNN-KDE: {same} of the first 1000 are the same; {union} neighbours x {features.shape[1]}"
    )
    ratio(
        f"KNN-KDE, {queries} x {candidates}, peer: dense rows, top-K, heap",
        lambda: dense_kde(scores_MN, blocks, weights),
        lambda: select(scores_MN, "knn_kde", BUDGET, **paper),
        REPEATS,
    )
    chosen = features[:union]
    half = chosen[: union // 2]
    floor("half of the product of the features", lambda: half @ chosen.T)


def full_ordering(scores_MN: np.ndarray) -> None:
    """The whole pool in round robin: the peer's picks all cost the same, so a part is timed."""
    candidates, part = scores_MN.shape[1], 2000
    theirs, mine = [], []
    for _ in range(REPEATS):
        start = time.process_time()
        masked_argmax(scores_MN, part)
        middle = time.process_time()
        select(scores_MN, "round_robin", candidates)
        theirs.append((middle - start) * candidates / part)
        mine.append(time.process_time() - middle)
    a, b = sorted(theirs)[REPEATS // 2], sorted(mine)[REPEATS // 2]
    print(
        f"round robin, all {candidates} in order, peer: masked argmax per pick: peer {a:.1f} s "
        f"(extrapolated from {part} picks), ours {b:.3f} s, ratio {a / b:.1f} over {REPEATS} repeats"
    )
    floor("one read of the scores", lambda: scores_MN.max(axis=1))


def main() -> None:
    scores_MN = cosines(SHAPE)
    print(f"selectors, {SHAPE[0]} x {SHAPE[1]}, float32, budget {BUDGET}, one thread")
    transport(scores_MN)
    neighbours(scores_MN)
    full_ordering(scores_MN)
    densities()


if __name__ == "__main__":
    _measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
