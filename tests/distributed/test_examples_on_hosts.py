"""The examples on machines that share nothing but a bucket: what they leave is that of one machine, to the byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.buckets import BUCKET
from tests.distributed.test_submit import environment
from tests.hosts import GCS, Machines, cluster_with_bucket
from tis_ray.settings.grid import placed
from tis_ray.storage import place

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3600)]

EXAMPLES = Path(__file__).parents[2] / "examples"
BYTES = (
    "rows-*/rows-*.parquet",
    "tokens-*/tokens-*.parquet",
    "screen-*/*.parquet",
    "scores-*/scores-*.npy",
    "ordering-*/ordering.parquet",
    "subsets-*/*.jsonl",
)
TOOK = ("seconds", "seconds_train", "peak_mb")
"""Of a cell: what it took, beside what came out."""


def _side(skill: str, rows: int) -> dict[str, Any]:
    return {"kind": "builtin", "skill": skill, "rows": rows}


TASKS = {
    name: {"query": _side(name, 6), "test": _side(name, 12)}
    for name in ("reverse_word", "sort_letters")
}
STUDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "quickstart": ("quickstart.yaml", {}),
    "study": ("study.yaml", {"data.pool.rows": 600, "seed": [0]}),
    "tasks": (
        "quickstart.yaml",
        {"tasks": TASKS, "data.pool.rows": 400, "seed": [0, 1], "draws": 1, "budget": [30]},
    ),
}


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """A head without work, two workers, and a machine that is no part of the cluster; a bucket for all."""
    names, joined = ["head", "one", "two", "away"], ["head", "one", "two"]
    with cluster_with_bucket(names, joined, environment()) as made:
        yield made


def config_of(name: str, where: str) -> dict[str, Any]:
    """Return an example with its files in a folder of the bucket."""
    file, changes = STUDIES[name]
    study: dict[str, Any] = yaml.safe_load((EXAMPLES / file).read_text())
    changes = {**changes, "tracking.enabled": False}
    changes |= {key: f"s3://{BUCKET}/{where}/{name}/{key}" for key in ("runs", "artifacts")}
    if "tasks" in changes:
        study["data"] = {k: v for k, v in study["data"].items() if k not in ("query", "test")}
    return placed(study, changes)


def run(machines: Machines, host: str, name: str, study: dict[str, Any]) -> None:
    file = place(f"s3://{BUCKET}/{name}-{host}.yaml")
    file.write_text(yaml.safe_dump(study))
    said = machines.tis_ray(host, "run", "-c", str(file), timeout=3000)
    assert said.returncode == 0, said.stderr[-4000:]


def left(study: dict[str, Any]) -> dict[str, bytes]:
    """Return the files that hold what came out, by artifact and name."""
    root = place(study["artifacts"])
    found = {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for pattern in BYTES
        for path in root.glob(pattern)
    }
    for path in root.glob("cell-*/metrics.json"):
        numbers = {k: v for k, v in json.loads(path.read_text()).items() if k not in TOOK}
        found[f"{path.parent.name}/metrics"] = json.dumps(numbers, sort_keys=True).encode()
    return found


@pytest.mark.parametrize("name", STUDIES)
def test_an_example_leaves_what_it_leaves_on_one_machine(machines: Machines, name: str) -> None:
    alone, together = config_of(name, "alone"), config_of(name, "together")
    head = f"{machines.hosts['head'].address}:{GCS}"
    together["compute"] = {"address": head, "actors": 2}
    run(machines, "away", name, alone)
    run(machines, "head", name, together)
    expected, found = left(alone), left(together)
    assert len(expected) > 10
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
