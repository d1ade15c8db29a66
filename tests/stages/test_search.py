"""ASHA over fine-tuning settings, and grids of studies, on a real Ray cluster."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.errors import InputError
from tis_ray.evaluation import example_losses
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora
from tis_ray.stages.search import with_point
from tis_ray.study.run import run
from tis_ray.training.loop import train

pytestmark = pytest.mark.ray

OVER = {"learning_rate": [1e-5, 1e-3, 4e-3], "batch_size": [4, 12]}


def study(folder: Path, **search: object) -> dict:
    settings = {"over": OVER, "rows": 24, "reduction": 2, **search}
    return small_study(folder, search=settings, representation="bm25", finetune__epochs=3)


def read(folder: Path) -> dict:
    (artifact,) = (folder / "artifacts").glob("search-*")
    return json.loads((artifact / "search.json").read_text())


@pytest.fixture(scope="module")
def searched(ray_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    return folder, run(study(folder))


def test_the_best_trial_is_chosen_and_every_cell_trains_with_it(searched) -> None:
    folder, result = searched
    found = read(folder)
    assert len(found["trials"]) == 6
    ended = [trial for trial in found["trials"] if len(trial["query_loss"]) == 3]
    assert 0 < len(ended) < 6  # ASHA stopped some
    best = min(ended, key=lambda trial: trial["query_loss"][-1])
    assert found["best"] == best["settings"]
    steps = 3 * math.ceil(12 / found["best"]["batch_size"])
    trained = [cell for cell in result.cells if cell.train_rows]
    assert [cell.optimizer_steps for cell in trained] == [steps] * 2
    assert result.record.search == found
    page = result.report.read_text()
    assert "Settings of fine-tuning" in page
    assert "stopped early" in page


def test_the_losses_told_are_those_of_training_with_these_settings(searched, tmp_path) -> None:
    folder, _ = searched
    found = read(folder)
    config = parse_config(study(folder))
    (artifact,) = (folder / "artifacts").glob("search-*")
    examples = pq.read_table(artifact / "examples.parquet").to_pylist()
    assert len(examples) == 24
    best = next(t for t in found["trials"] if t["settings"] == found["best"])
    finetune = with_point(config.finetune, found["best"])
    model = attach_lora(load_model(config.model), finetune.lora, 0)
    (tokens,) = (
        path.parent
        for path in (folder / "artifacts").glob("tokens-*/tokens-00000.parquet")
        if len(pq.read_table(path)) == 4
    )
    queries = pq.read_table(tokens / "tokens-00000.parquet").to_pylist()
    losses = []

    def tell(metrics: dict) -> None:
        losses.append(float(example_losses(model, queries).mean()))
        model.train()

    train(model, examples, finetune, seed=0, folder=tmp_path, on_epoch=tell)
    assert best["query_loss"] == pytest.approx(losses, rel=1e-6)


def test_a_second_run_searches_no_more(searched, monkeypatch) -> None:
    folder, first = searched
    monkeypatch.setattr("tis_ray.stages.search._run", None)
    again = run(study(folder))
    assert [c.fingerprint for c in again.cells] == [c.fingerprint for c in first.cells]


def test_settings_that_diverge_are_told(ray_cluster, tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"none of 1 trials gave a finite query loss \(step"):
        run(study(tmp_path, over={"learning_rate": [1e30]}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over": {"epochs": [1, 2]}}, "epochs cannot be searched for"),
        ({"over": {"learning_rat": [1, 2]}}, "learning_rat"),
        ({"over": {"learning_rate": [-1]}}, "learning_rate"),
        ({"over": {}}, "search.over"),
    ],
)
def test_bad_settings_are_one_line(tmp_path, settings, message) -> None:
    with pytest.raises(InputError) as error:
        parse_config(study(tmp_path, **settings))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_must_be_told_where_budgets_count_tokens(tmp_path) -> None:
    with pytest.raises(InputError, match=r"search.rows is missing"):
        parse_config(study(tmp_path, rows=None) | {"budget_unit": "tokens"})


def test_a_grid_is_a_study_for_each_value_and_shares_what_it_can(ray_cluster, tmp_path) -> None:
    result = run(
        small_study(
            tmp_path,
            representation=["rds", "bm25"],
            grid={"finetune.learning_rate": [1e-3, 2e-3]},
            evaluation__metrics=[],
        )
    )
    names = [f"small-finetune.learning_rate-{rate}" for rate in (0.001, 0.002)]
    assert list(result.parts) == names
    assert len(list((tmp_path / "artifacts").glob("features-rds-*"))) == 1
    cells = [cell for study in result.studies for cell in study.cells if cell.train_rows]
    assert len({cell.fingerprint for cell in cells}) == 6
    page = result.report.read_text()
    assert all(name in page for name in names)
    settings = [study.record.setting for study in result.studies]
    assert settings == [{"finetune.learning_rate": rate} for rate in (0.001, 0.002)]
    tables = json.loads((result.run_dir / "report" / "tables.json").read_text())
    assert set(tables["budget"]["builtin"]) == set(names)
