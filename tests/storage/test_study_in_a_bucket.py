"""A study whose pool, runs and artifacts are in a bucket has the bytes and numbers of one on a disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.buckets import BUCKET, s3_server
from tests.small import small_study
from tis_ray.data import builtin
from tis_ray.storage import Place, followed, listed, place
from tis_ray.store import read_json

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The same study twice, each run to its end by the command line: on a disk, and in a bucket."""
    folder = tmp_path_factory.mktemp("both")
    rows = [row for _, row in zip(range(160), builtin.iter_pool_rows(160, seed=0), strict=False)]
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIS_RAY_CACHE", str(folder / "copies"))
        env = {**os.environ, **environment}
        found: dict[str, Any] = {"env": env, "folder": folder}
        for name, root in (("disk", str(folder / "disk")), ("bucket", f"s3://{BUCKET}")):
            pool = place(f"{root}/pool/part.jsonl")
            if isinstance(pool, Path):
                pool.parent.mkdir(parents=True)
            pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
            config = small_study(folder, budget=[8, 12], representation=["less", "embed"])
            config |= {"runs": f"{root}/runs", "artifacts": f"{root}/artifacts"}
            config["data"]["pool"] = {"path": f"{root}/pool"}
            file = folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump(config))
            said = _tis_ray(env, folder, "run", "-c", str(file))
            assert said.returncode == 0, said.stderr
            found[name] = (place(config["runs"]) / "small", file, said.stderr)
        yield found


def _tis_ray(env: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tis_ray.cli", *words]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)


def _numbers(run: Place) -> list[Any]:
    record = read_json(run / "report" / "record.json")
    named = ("metrics", "budget", "seed", "train_tokens")
    return [{name: cell.get(name) for name in named} for cell in record["cells"]]


def test_orderings_subsets_and_cells_are_the_same(studies: dict[str, Any]) -> None:
    disk, bucket = studies["disk"][0], studies["bucket"][0]
    for method in ("less-round_robin", "embed-round_robin"):
        one, two = (
            (followed(run / "orderings" / method) / "ordering.parquet").read_bytes()
            for run in (disk, bucket)
        )
        assert one == two
    here, there = (followed(run / "subsets") for run in (disk, bucket))
    assert [path.name for path in listed(here, "*")] == [path.name for path in listed(there, "*")]
    for path in listed(here, "*"):
        assert path.read_bytes() == (there / path.name).read_bytes()
    assert _numbers(disk) == _numbers(bucket)


def test_the_verbs_that_read_work_from_anywhere(studies: dict[str, Any], tmp_path: Path) -> None:
    run, env = studies["bucket"][0], studies["env"]
    status = _tis_ray(env, tmp_path, "status", "-c", str(run), "--json")
    assert json.loads(status.stdout)["studies"][0]["state"] == "done"
    first = json.loads(
        (listed(followed(run / "subsets"), "less*-8.*")[0]).read_text().splitlines()[0]
    )
    explained = _tis_ray(env, tmp_path, "explain", "-c", str(run), first["id"])
    assert explained.returncode == 0, explained.stderr
    assert "rank 1 of 12" in explained.stdout + explained.stderr
    subset = ["subset", str(run), "--method", "less+round_robin", "--budget", "8"]
    written = _tis_ray(env, tmp_path, *subset, "--form", "trl", "--to", str(tmp_path / "x.jsonl"))
    assert written.returncode == 0, written.stderr
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 8


def test_a_run_that_finds_all_done_starts_nothing(studies: dict[str, Any]) -> None:
    _, file, _ = studies["bucket"]
    again = _tis_ray(studies["env"], studies["folder"], "run", "-c", str(file))
    assert again.returncode == 0
    assert "nothing has changed since" in again.stderr


def test_nothing_of_it_is_on_this_machine_but_copies(studies: dict[str, Any]) -> None:
    held = {path.name for path in studies["folder"].iterdir()}
    assert held == {"disk", "disk.yaml", "bucket.yaml", "copies"}
    said = studies["bucket"][2]
    assert "secret-of-the-test" not in said
