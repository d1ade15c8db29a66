"""Selection alone: without test rows and settings of fine-tuning; and what a run leaves of selected rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.small import small_study
from tis_ray.cli import app
from tis_ray.config import parse_config
from tis_ray.data import read_rows
from tis_ray.errors import InputError
from tis_ray.settings import BuiltinSource
from tis_ray.study.price import price
from tis_ray.study.run import run


def written(path: Path, source: BuiltinSource, side: Any, **more: Any) -> str:
    """Write rows of the generator as a user's file, without their ids."""
    rows = ({"messages": row["messages"], **more} for row in read_rows(source, side))  # type: ignore[union-attr]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """A study of a user's files by words alone, without `data.test` and `finetune`."""
    queries = BuiltinSource(rows=20, skill="reverse_word")
    study = small_study(
        tmp_path,
        representation="bm25",
        data__pool={"path": written(tmp_path / "pool.jsonl", BuiltinSource(rows=160), "pool", licence="mit")},
        data__query={"path": written(tmp_path / "q.jsonl", queries, "query")},
    )  # fmt: skip
    del study["data"]["test"], study["finetune"], study["less"]
    return study


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_selection_needs_no_test_rows(files: dict[str, Any]) -> None:
    result = run({**files, "budget": [4, 12]}, until="select")
    names = ["bm25-round_robin-12.jsonl", "bm25-round_robin-4.jsonl"]
    assert [path.name for path in result.subsets] == names
    pool = Path(files["data"]["pool"]["path"]).read_text().splitlines()
    for path, budget in zip(result.subsets, (12, 4), strict=True):
        found = rows(path)
        assert [row["tis_ray"]["rank"] for row in found] == list(range(1, budget + 1))
        for row, line in zip(found, path.read_text().splitlines(), strict=True):
            assert line.startswith(
                pool[row["tis_ray"]["line"] - 1].removesuffix("}") + ', "tis_ray": '
            )
    # Again: nothing is written; another budget: what was there for the old one is gone.
    before = result.subsets[0].stat()
    assert run({**files, "budget": [4, 12]}, until="select").subsets[0].stat() == before
    again = run({**files, "budget": 5}, until="select")
    assert [path.name for path in again.subsets] == ["bm25-round_robin-5.jsonl"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_part_of_the_queries_is_held_out(files: dict[str, Any], tmp_path: Path) -> None:
    files["data"]["query"]["holdout"] = 0.3
    result = run(files, until="select")
    queries = {row["tis_ray"]["query"]["line"] for row in rows(result.subsets[0])}
    held = {row["line"] for row in read_rows(parse_config(files).data.side("test"), "test")}  # type: ignore[union-attr]
    assert len(held) == 6
    assert not queries & held


@pytest.mark.parametrize("until", ["evaluate", "report"])
def test_what_measures_models_says_that_there_are_no_test_rows(
    files: dict[str, Any], until: Any
) -> None:
    with pytest.raises(
        InputError, match=r"^data\.test is missing: models are measured .* holdout: 0\.3"
    ):
        run(files, until=until)
    with pytest.raises(InputError, match=r"^data\.test is missing"):
        price(parse_config(files))


def test_the_same_rows_as_queries_and_test_rows_are_refused(files: dict[str, Any]) -> None:
    files["data"]["test"] = files["data"]["query"]
    with pytest.raises(
        InputError, match=r"data\.test: all of its 20 rows are queries .*holdout: 0\.3"
    ):
        run(files, until="select")


@pytest.mark.ray
def test_a_run_leaves_the_rows_that_it_trained_on(undisturbed: Path) -> None:
    run_dir = undisturbed / "runs" / "small"
    (path,) = (run_dir / "subsets").iterdir()
    assert path.name == "less-round_robin-12.jsonl"
    found = rows(path)
    assert len(found) == 12
    assert {row["id"] for row in found} == {row["tis_ray"]["id"] for row in found}
    assert {*found[0]} == {"id", "source", "messages", "tis_ray"}


def test_of_several_studies_the_one_that_cannot_run_is_named(files: dict[str, Any]) -> None:
    query = files["data"].pop("query")
    test = {"kind": "builtin", "skill": "shift_letters", "rows": 5}
    files["tasks"] = {
        "good": {"query": query, "test": test},
        "bad": {"query": query, "test": query},
    }
    with pytest.raises(InputError, match=r"^\S+-bad: data\.test: all of its 20 rows are queries"):
        run(files)


@pytest.mark.parametrize(
    "asked",
    [
        ["--scores", "S.npy", "--dry-run"],
        ["--scores", "S.npy", "--dry-run", "--json"],
        ["--config", "study.yaml", "--json"],
    ],
)
def test_a_dry_run_is_of_a_study(asked: list[str]) -> None:
    said = CliRunner().invoke(app, ["select", *asked])
    assert isinstance(said.exception, InputError)
    assert "--dry-run goes with --config" in str(said.exception)


def test_a_selection_is_priced_without_test_rows(files: dict[str, Any]) -> None:
    stages = {stage.stage for stage in price(parse_config(files), until="select").stages}
    assert not stages & {"fine-tune", "evaluate"}
    assert "tokens" in stages
