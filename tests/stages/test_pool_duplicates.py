"""The pool rows that repeat an earlier one are those of a plain comparison, whatever the shards and parts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.small import small_study
from tests.stages.here import context_here
from tis_ray.config import parse_config
from tis_ray.data import read_rows
from tis_ray.data.duplicates import near_duplicates, row_runs
from tis_ray.data.overlap import row_words
from tis_ray.stages import pool_duplicates as stage
from tis_ray.stages.tokens import read_side
from tis_ray.store import Artifact

WORDS = [f"w{n}" for n in range(40)]


def pool_of(folder: Path) -> Path:
    """Write rows of which many are equal, or share long runs with one before."""
    chance = random.Random(0)
    texts: list[str] = []
    for _ in range(120):
        kind = chance.random()
        if texts and kind < 0.2:
            texts.append(chance.choice(texts))
        elif texts and kind < 0.6:
            old = chance.choice(texts).split()
            cut = chance.randrange(len(old))
            texts.append(" ".join([*old[:cut], *chance.choices(WORDS, k=6), *old[cut:]]))
        else:
            texts.append(" ".join(chance.choices(WORDS, k=24)))
    file = folder / "pool.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": "q", "completion": t}) for t in texts))
    return file


def expected(file: Path, n: int) -> dict[int, str]:
    """Return, by a plain loop, the line that each dropped row repeats."""
    rows = [row for row in read_rows(_source(file)) if isinstance(row, dict)]
    first: dict[str, int] = {}
    equal = {
        k: first[c] for k, row in enumerate(rows) if first.setdefault(c := row["content"], k) != k
    }
    left = [(k, row) for k, row in enumerate(rows) if k not in equal]
    near = near_duplicates(
        [row_runs(left, n)],
        len(left),
        lambda wanted: {k: row_words(rows[k]) for k in wanted},
        n=n,
    )
    lines = {k: f"line {other + 1})" for k, other in equal.items()}
    return lines | {k: f"line {other + 1})" for k, (other, _) in near.items()}


def _source(file: Path):
    return parse_config(small_study(file.parent, data__pool={"path": str(file)})).data.pool


@pytest.mark.parametrize(("hashes", "runs"), [(10**6, 10**6), (30, 25)])
@pytest.mark.parametrize("shard_rows", [7, 200])
def test_repeated_rows_are_those_of_a_plain_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_rows: int, hashes: int, runs: int
) -> None:
    monkeypatch.setattr(stage, "HASHES_TOGETHER", hashes)
    monkeypatch.setattr(stage, "RUNS_TOGETHER", runs)
    monkeypatch.setattr("tis_ray.distributed.shards.FEW_SHARDS", 10**6)
    file = pool_of(tmp_path)
    changes = {"batch__shard_rows": shard_rows, "overlap": {"pool": "near"}}
    study = small_study(tmp_path, data__pool={"path": str(file)}, **changes)
    context = context_here(study, tmp_path)
    config = context.config
    artifact = Artifact(tmp_path, "screen", {})
    rows = read_side(config, "pool")
    found = stage.pool_duplicates(context, artifact, rows, config.overlap)
    ids = [row["id"] for row in read_rows(config.data.pool) if isinstance(row, dict)]
    told = {ids.index(each["id"]): each["detail"] for each in found}
    wanted = expected(file, config.overlap.ngram)
    assert len(wanted) > 40
    assert told.keys() == wanted.keys()
    assert all(told[row].endswith(line) for row, line in wanted.items())
    assert sum(detail.startswith("equal to pool row") for detail in told.values()) > 10
    assert sum("of its words are in pool row" in detail for detail in told.values()) > 10
