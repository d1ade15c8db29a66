"""What the driver of a study does for each row of the pool: CPU time by stage, peak memory, files.

The rows are short, and the representation costs next to nothing: a fixed random vector for each token, summed.
What is left is the driver's own work, which stands between a user and pools that are larger than a machine. Each
pool is read in one process and taken through all stages before the cells in another, whose CPU time (of all its
threads, without its workers) and peak memory are told. The page is told apart: it is made after the cells.

    python -m benchmarks growth                     # 10,000 and 100,000 rows
    python -m benchmarks.growth 1000000             # another size
    python -m benchmarks.growth 100000 --profile    # and where the time goes
    python -m benchmarks.growth 100000 --inside     # the workers in the driver's process, and not counted

Ray Data takes CPU time of the driver as long as a stage lasts, so that a slow machine has larger figures. `--inside`
is without it, and without a cluster: there the figures are those of our own code.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import os
import pickle
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.representations import Features

SIZES = (10_000, 100_000)
BUDGET = 1000
QUERIES = 4
WIDTH = 16
INGEST, PAGE = "ingest", "page"
"""Told apart: what is done before the first worker starts, and after the cells have ended."""
TARGET = 2.0
"""Microseconds of the driver a row, over the stages between."""


class Tokens:
    """Sums of random vectors, one for each token."""

    def __init__(self, build: object) -> None:
        self.table = np.random.default_rng(0).standard_normal((4096, WIDTH)).astype(np.float32)

    def features(self, rows: list[Any], side: str) -> Features:
        """Return (E, 1, WIDTH) unit vectors."""
        values_EK = np.stack(
            [self.table[np.array(row["input_ids"]) % len(self.table)].sum(axis=0) for row in rows]
        )
        values_EK /= np.linalg.norm(values_EK, axis=1, keepdims=True)
        return Features(values_EK[:, None], {}, {})


def main() -> None:
    """Print the table of all sizes, one size after the other."""
    options = _options()
    if options.work:
        with _inside() if options.inside else nullcontext():
            _work(Path(options.work[0]), options.work[1], options.profile)
        return
    print("  CPU of the driver, us a row", flush=True)
    for rows in options.rows or SIZES:
        _print(rows, _measured(rows, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, help="sizes of the pool")
    parser.add_argument("--shard-rows", type=int, help="batch.shard_rows; the default without it")
    parser.add_argument(
        "--keep", help="keep artifacts in this folder, and use those that are there"
    )
    parser.add_argument("--inside", action="store_true", help="without Ray Data")
    parser.add_argument("--profile", action="store_true", help="tell the dearest functions")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measured(rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return what reading and then running a study over so many rows came to."""
    with tempfile.TemporaryDirectory(prefix="growth-") as temporary:
        folder = Path(options.keep or temporary) / f"{rows}"
        folder.mkdir(parents=True, exist_ok=True)
        _write_pool(folder / "pool.jsonl", rows)
        config = _config(folder, options.shard_rows)
        (folder / "config.json").write_text(json.dumps(config))
        reading = _child(folder, "read", options)
        running = _child(folder, "run", options)
        return {
            **running,
            "stages": {INGEST: reading["stages"][INGEST], **running["stages"]},
            "ingest_mb": reading["peak_mb"],
            **_files(folder / "artifacts"),
        }


def _write_pool(path: Path, rows: int) -> None:
    """Write short rows of four sources, all different."""
    if path.exists():
        return
    with path.open("w") as file:
        for row in range(rows):
            words = f"reverse {row:x} {row * 7919 % 1009} of set {row % 4}"
            turns = [
                {"role": "user", "content": words},
                {"role": "assistant", "content": f"{row:x}"[::-1]},
            ]
            line = {"id": f"row-{row}", "source": f"set-{row % 4}", "messages": turns}
            file.write(json.dumps(line) + "\n")


def _config(folder: Path, shard_rows: int | None) -> dict[str, Any]:
    query = {"kind": "builtin", "skill": "reverse_word", "rows": QUERIES}
    return {
        "name": "growth",
        "runs": str(folder / "runs"),
        "artifacts": str(folder / "artifacts"),
        "data": {
            "pool": str(folder / "pool.jsonl"),
            "query": query,
            "test": query,
            "max_length": 64,
        },
        "overlap": {"query": "keep", "test": "keep"},
        "representation": "benchmarks.growth:Tokens",
        "selector": "round_robin",
        "budget": min(BUDGET, json.loads(folder.name) // 2),
        "seed": 0,
        "compute": {"actors": 1},
        "tracking": {"enabled": False},
        **({"batch": {"shard_rows": shard_rows}} if shard_rows else {}),
    }


def _child(folder: Path, part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Do a part in a process of its own, so that no part has the memory of another."""
    command = [sys.executable, "-m", "benchmarks.growth", "--work", str(folder), part]
    command += ["--profile"] if options.profile else []
    command += ["--inside"] if options.inside else []
    subprocess.run(command, check=True)
    told: dict[str, Any] = json.loads((folder / f"{part}.json").read_text())
    return told


def _work(folder: Path, part: str, profile: bool) -> None:
    """Be the driver: take the study through its stages and leave what they came to."""
    spent: dict[str, float] = {}
    profiler = cProfile.Profile() if profile else None

    def stage(name: str, work: Callable[[], Any]) -> Any:
        before = _cpu()
        if profiler is not None:
            profiler.enable()
        result = work()
        if profiler is not None:
            profiler.disable()
        spent[name] = _cpu() - before
        return result

    start = time.monotonic()
    (_read if part == "read" else _run)(json.loads((folder / "config.json").read_text()), stage)
    told = {"stages": spent, "seconds": time.monotonic() - start, "peak_mb": _peak_mb()}
    (folder / f"{part}.json").write_text(json.dumps(told))
    if profiler is not None:
        text = io.StringIO()
        pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(28)
        pstats.Stats(profiler, stream=text).sort_stats("cumtime").print_stats("tis_ray", 45)
        print(text.getvalue())


def _read(config: dict[str, Any], stage: Callable[[str, Callable[[], Any]], Any]) -> None:
    from tis_ray.config import parse_config
    from tis_ray.stages.tokens import read_side

    parsed = parse_config(config)
    stage(INGEST, lambda: [read_side(parsed, side) for side in parsed.data.sides])


def _run(config: dict[str, Any], stage: Callable[[str, Callable[[], Any]], Any]) -> None:
    from rich.console import Console

    from tis_ray.config import parse_config, parts
    from tis_ray.distributed.connect import connect
    from tis_ray.log import RunLog
    from tis_ray.representations.less import REPRESENTATION as LESS
    from tis_ray.stages.constrain import Constrainer, random_fill
    from tis_ray.stages.tokens import read_side
    from tis_ray.stages.training_rows import sample_rows
    from tis_ray.stages.warmup_rows import warmup_sample
    from tis_ray.study.gather import study_record
    from tis_ray.study.study import Study

    (part,) = parts(parse_config(config))
    log = RunLog(part.config.run_dir, Console(file=io.StringIO()))
    rows = {side: read_side(part.config, side) for side in part.config.data.sides}
    study = Study(part.config, connect(part.config), log, part, rows)
    print(f"  ready: {_peak_mb():.0f} MB", file=sys.stderr)
    stage("screen", lambda: study.screen)
    stage("tokens", lambda: study.sides)
    warmup = LESS.warmup(part.config.settings_of(LESS))
    stage("warm-up rows", lambda: warmup_sample(warmup, study, part.config.model, study.pool))
    stage("search rows", lambda: sample_rows(study.pool, BUDGET, 0))
    stage("features", lambda: study.features)
    stage("scores", lambda: study.represented)
    stage("orderings", lambda: study.orderings)
    stage("subsets", lambda: study.subsets)
    stage("random rows", lambda: random_fill(Constrainer(part.config, study.pool), 0))
    stage("cells planned", lambda: study.plans)
    vars(study).update(cells=[], quantiles=[], distances=[])
    stage(PAGE, lambda: study_record(study, "growth"))


_workers = 0.0
"""CPU seconds of workers in this process."""


def _cpu() -> float:
    """Return the CPU seconds of this process so far, of all its threads, without workers."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime - _workers


@contextmanager
def _inside() -> Iterator[None]:
    """Let all workers be in this process, without a cluster, and do not count their time."""
    from tis_ray import select
    from tis_ray.distributed import connect, shards
    from tis_ray.selectors import Ordering
    from tis_ray.stages import rank_pool
    from tis_ray.study import study as _  # noqa: F401  # whose stages all have the function by name

    in_actors = shards.map_shards

    def in_turn(
        worker_class: Any, arguments: Any, todo: Any, study: Any, label: str, **options: Any
    ) -> Any:
        totals = shards.Totals(rows=0, seconds=0.0, cut=0, peak_mb=0.0, nodes={})
        with _uncounted():
            worker = worker_class(**pickle.loads(pickle.dumps(arguments)))
            for shard in todo:
                shards._add(totals, worker(shard))
        return totals

    class Held:
        def __init__(self, refs: Any) -> None:
            self.refs = refs

        def select(self, selector: Any, budget: int, **params: Any) -> Ordering:
            with _uncounted():
                scores_MN = np.concatenate([np.load(ref.path) for ref in self.refs], axis=1)
                return select(scores_MN, selector=selector.name, budget=budget, **params)

    for module in [*sys.modules.values()]:
        if getattr(module, "map_shards", None) is in_actors:
            module.map_shards = in_turn  # type: ignore[attr-defined]
    rank_pool.hold_scores = lambda refs, actors: nullcontext(Held(refs))  # type: ignore[assignment]
    connect.connect = lambda config: connect.Cluster(1, 0, 1, 0, actors=1)  # type: ignore[assignment]
    yield


@contextmanager
def _uncounted() -> Iterator[None]:
    global _workers
    before = _cpu()
    yield
    _workers += _cpu() - before


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _files(artifacts: Path) -> dict[str, int]:
    """Return how many shards the pool has, and how many files and folders of files there are in all stages."""
    by_stage: dict[str, int] = {}
    for folder in artifacts.iterdir():
        stage = folder.name.rpartition("-")[0]
        files = sum(1 for path in folder.rglob("*") if path.is_file())
        by_stage[stage] = max(files, by_stage.get(stage, 0))  # of the sides, the pool
    return {"files": sum(by_stage.values()), "shards": _shards(artifacts), "by_stage": by_stage}


def _shards(artifacts: Path) -> int:
    manifests = [json.loads(p.read_text()) for p in artifacts.glob("rows-*/manifest.json")]
    return max(int(manifest["details"]["shards"]) for manifest in manifests)


def _print(rows: int, told: dict[str, Any]) -> None:
    stages = told["stages"]
    between = sum(cpu for name, cpu in stages.items() if name not in (INGEST, PAGE))
    parts = ", ".join(f"{name} {1e6 * cpu / rows:.2f}" for name, cpu in stages.items())
    print(
        f"  {rows:,} rows in {told['shards']} shards: {between:.2f} s, {1e6 * between / rows:.2f} us a "
        f"row before cells without ingest (target {TARGET:g}); {parts}; peak {told['peak_mb']:.0f} MB "
        f"(ingest {told['ingest_mb']:.0f} MB); {told['files'] / told['shards']:.2f} files a shard "
        f"{told['by_stage']}; {told['seconds']:.0f} s in all; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
