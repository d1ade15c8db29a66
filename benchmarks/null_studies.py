"""Studies in which nothing differs: how often do page, terminal, tracker and advice name a winner?

    python -m benchmarks.null_studies --out DIR        # 210 studies, over an hour on two cores

Each study is a whole one, through `tis_ray.run`: real trainings of the model that ships, on a pool of one
skill, with a "method" whose scores are random numbers. Its subset is a random one, the same in all
seeds, as every deterministic selector's are. Whatever is called better or worse is a false alarm. Studies of one
number have one pool, and those with few seeds find the trainings of the one with the most. A study that is there
already is not run again.

Beside it the same verdicts as the field gives them, by paired t-tests over seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy

import tis_ray as tis
from tis_ray.data import builtin
from tis_ray.report.headline import headline
from tis_ray.report.recommendation import advice
from tis_ray.report.record import StudyRecord
from tis_ray.report.study_results import RECORD

POOL, QUERIES, TEST, BUDGET = 200, 8, 100, 32
SKILLS = (
    "reverse_word",
    "sort_letters",
    "shift_letters",
    "double_letters",
    "add_numbers",
    "plural",
)
METHODS = ("null",)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_studies", description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--studies", type=int, default=70, help="for each number of seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10])
    options = parser.parse_args()
    out = Path(options.out).absolute()
    for number in range(options.studies):
        for seeds in sorted(options.seeds, reverse=True):
            _run(out, seeds, number)
        print(f"  {number + 1} of {options.studies}", file=sys.stderr, flush=True)
    for seeds in options.seeds:
        folders = sorted(out.glob(f"runs/null-{seeds}-*"))
        print(json.dumps({"seeds": seeds, **_counted(folders)}), flush=True)


def _run(out: Path, seeds: int, number: int) -> None:
    name = f"null-{seeds}-{number:03d}"
    if (out / "runs" / name / RECORD).exists():
        return
    rng = np.random.default_rng(number)
    skill = SKILLS[number % len(SKILLS)]
    folder = out / "data" / f"{number:03d}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = (row for row in builtin.iter_pool_rows(10**6, seed=1000 + number))
    own = (row for row in rows if row["source"] == skill)
    with (folder / "pool.jsonl").open("w") as file:
        for row, _ in zip(own, range(POOL), strict=False):
            file.write(json.dumps(row) + "\n")
    for method in METHODS:
        np.save(folder / f"{method}.npy", rng.normal(size=(QUERIES, POOL)).astype(np.float32))
    source = {"kind": "builtin", "skill": skill}
    config: dict[str, Any] = {
        "name": name,
        "runs": str(out / "runs"),
        "artifacts": str(out / "artifacts" / f"{number:03d}"),
        "data": {
            "pool": {"path": str(folder / "pool.jsonl")},
            "query": {**source, "rows": QUERIES},
            "test": {**source, "rows": TEST},
            "max_length": 128,
        },
        "overlap": {"test": "keep"},
        "model": {"name": "builtin"},
        "representation": [
            {"scores": str(folder / f"{method}.npy"), "name": method} for method in METHODS
        ],
        "selector": "round_robin",
        "budget": BUDGET,
        "seed": list(range(seeds)),
        "draws": seeds,
        "finetune": {
            "epochs": 4,
            "batch_size": 16,
            "learning_rate": 2e-3,
            "workers": 0,
            "save": False,
        },
        "evaluation": {"max_new_tokens": 24},
        "tracking": {"enabled": False},
    }
    tis.run(config)


def _counted(folders: list[Path]) -> dict[str, object]:
    """Return, of some studies, how often each metric and question had a verdict, and who named a winner."""
    verdicts: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for folder in folders:
        record = StudyRecord.load(folder / RECORD)
        table = record.table()
        for key, decided in _verdicts(record):
            asked[key] += 1
            verdicts[key] += decided
        page = headline(table).tone == "good"
        told = next(advice([folder], BUDGET, None, "test_loss")).startswith("use ")
        named["page"] += page
        named["recommend"] += told
        named["disagree"] += page != told
    return {
        "studies": len(folders),
        "verdicts": {key: [verdicts[key], asked[key]] for key in asked},
        "winners": dict(named),
    }


def _verdicts(record: StudyRecord) -> Iterator[tuple[str, bool]]:
    """Yield each comparison's metric and question, and whether it was called better or worse."""
    random = {c.seed: c for c in record.cells if c.method.is_random}
    for row in record.table():
        for name, summary in row.metrics.items():
            if summary.vs_random is None:
                continue
            yield f"{name}, subset", summary.vs_random.decided
            if summary.method_vs_random is not None:
                yield f"{name}, method", summary.method_vs_random.decided
            own = [c for c in record.cells if c.method == row.method and c.draw is None]
            pairs = [(c.metrics[name], random[c.seed].metrics[name]) for c in own]
            left, right = np.array(pairs, float).T
            if np.ptp(left - right) > 0:
                yield f"{name}, paired t", bool(scipy.stats.ttest_rel(left, right).pvalue < 0.05)
    for pair in record.pairs():
        yield f"{pair.metric.name}, pair", pair.comparison.decided


if __name__ == "__main__":
    main()
