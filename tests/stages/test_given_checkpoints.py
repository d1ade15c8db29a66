"""Checkpoints that are not trained here: what is made of them, what is refused, what is made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import peft
import pyarrow.parquet as pq
import pytest
import torch

from tests.small import small_study
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora, trainable_parameters, with_adapter
from tis_ray.representations.less import REPRESENTATION, LessSettings
from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
from tis_ray.stages.given_checkpoints import MakeOrder, given_problems, make_checkpoints
from tis_ray.study.run import run
from tis_ray.training.checkpoints import Checkpoint
from tis_ray.training.loop import train
from tis_ray.training.trainer_checkpoints import GivenCheckpoint

MODEL = ModelConfig()
ROWS = [{"input_ids": [5 + i, 6, 7, 8 + i], "labels": [-100, 6, 7, 8 + i]} for i in range(6)]


def order(**changes) -> MakeOrder:
    plain = {
        "sources": (),
        "steps": (),
        "model": MODEL,
        "lora": None,
        "seed": 4,
        "training": TrainingConfig(batch_size=2),
        "moments": False,
        "threads": 1,
        "device": "cpu",
    }
    return MakeOrder(**{**plain, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return trainable_parameters(with_adapter(load_model(MODEL), folder, trainable=True))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    config = peft.LoraConfig(r=3, target_modules=["q_proj", "down_proj"], lora_alpha=12)
    peft.get_peft_model(load_model(MODEL), config).save_pretrained(folder)
    return folder


def warmup(**settings):
    return REPRESENTATION.warmup(LessSettings.model_validate(settings))


def test_a_given_adapter_keeps_its_weights_and_its_shape(adapter, tmp_path):
    make_checkpoints(order(sources=(GivenCheckpoint(adapter, "less.adapter"),)), tmp_path, None)
    made = Checkpoint(tmp_path / "epoch-1")
    assert (made.lora()["r"], made.lora()["lora_alpha"]) == (3, 12)
    assert not made.has_moments
    before, after = weights(adapter), weights(made.adapter)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_a_warmup_the_adapters_are_as_a_warmup_would_begin(tmp_path):
    make_checkpoints(order(lora=LoraConfig(rank=2)), tmp_path, None)
    expected = trainable_parameters(attach_lora(load_model(MODEL), LoraConfig(rank=2), seed=4))
    for name, weight in weights(tmp_path / "epoch-1" / "adapter").items():
        assert torch.equal(weight, expected[name])


@pytest.mark.parametrize("value", ["none", None, {"epochs": 0}])
def test_no_warmup_has_three_spellings(value):
    found = warmup(warmup=value)
    assert not found.trains
    assert found.passes == 1
    assert found == warmup(warmup={"epochs": 0})


def test_two_origins_are_one_too_many():
    with pytest.raises(ValueError, match=r"both adapter and warmup\.checkpoints are given"):
        LessSettings.model_validate({"adapter": "a", "warmup": {"checkpoints": "b"}})


@pytest.mark.parametrize(
    ("pool", "query", "needed"),
    [("adam", "sgd", True), ("sgd", "adam", True), ("sgd", "sign", False)],
)
def test_moments_are_needed_for_adam_alone(pool, query, needed):
    assert warmup(pool_direction=pool, query_direction=query).moments is needed


def problems(**settings) -> str:
    (line,) = given_problems(warmup(**settings), MODEL)
    assert "\n" not in line
    return line


def test_folders_that_fit_are_taken(adapter, tmp_path):
    assert given_problems(warmup(), MODEL) == []
    assert given_problems(warmup(adapter=str(adapter)), MODEL) == []
    kept = train(
        attach_lora(load_model(MODEL), LoraConfig(rank=2), seed=0),
        ROWS,
        TrainingConfig(epochs=1, learning_rate=1e-3),
        seed=0,
        folder=tmp_path,
    )
    assert given_problems(warmup(warmup={"checkpoints": str(tmp_path)}), MODEL) == []
    (kept[0].path / "moments.safetensors").unlink()
    assert "epoch-1 has no Adam moments" in problems(warmup={"checkpoints": str(tmp_path)})
    settings = {"warmup": {"checkpoints": str(tmp_path)}, "pool_direction": "sgd"}
    assert given_problems(warmup(**settings), MODEL) == []


def test_folders_that_are_something_else_are_refused_with_the_cure(adapter, tmp_path):
    assert "is not a folder" in problems(adapter=str(tmp_path / "nowhere"))
    assert "holds no adapter" in problems(adapter=str(tmp_path))
    assert "; check the path" in problems(warmup={"checkpoints": str(tmp_path)})
    assert "; give it as the adapter" in problems(warmup={"checkpoints": str(adapter)})
    (tmp_path / "checkpoint-3").mkdir()
    assert "holds no adapter_config.json" in problems(warmup={"checkpoints": str(tmp_path)})
    shutil.copytree(adapter, tmp_path / "checkpoint-3", dirs_exist_ok=True)
    assert "less.warmup.checkpoints" in problems(adapter=str(tmp_path))


def test_settings_that_contradict_the_adapter_are_refused(adapter):
    line = problems(adapter=str(adapter), lora={"rank": 8})
    assert line.startswith("less.lora.rank: found 8, but the adapter in ")
    assert given_problems(warmup(adapter=str(adapter), lora={"rank": 3, "alpha": 12}), MODEL) == []


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_an_adapter_given_to_a_study_is_scored_and_found_again(copied, undisturbed):
    (trained,) = (copied / "artifacts").glob("warmup-*")
    study = small_study(copied, less__adapter=str(trained / "epoch-2" / "adapter"))
    run(study, until="select")
    (made,) = (copied / "artifacts").glob("moments-*")
    (checkpoint,) = made.glob("epoch-*")
    assert Checkpoint(checkpoint).has_moments
    events = (copied / "runs" / "small" / "events.jsonl").read_text().splitlines()
    (stage,) = [e for e in map(json.loads, events) if e.get("artifact") == str(made)]
    assert stage["rows"] == 32
    assert "estimated from 32 rows" in stage["note"]
    run(study, until="select")
    assert len(list((copied / "artifacts").glob("moments-*"))) == 1


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_excluding_rows_trains_nothing_anew_and_keeps_them_out(copied, undisturbed):
    (trained,) = (copied / "artifacts").glob("warmup-*")
    seen = pq.read_table(trained / "examples.parquet")["id"].to_pylist()
    chosen = pq.read_table(copied / "runs/small/orderings/less-round_robin/ordering.parquet")
    excluded = [*seen[:3], chosen["id"][0].as_py()]
    study = small_study(copied, constraints__exclude=excluded)
    run(study, until="select")
    assert list((copied / "artifacts").glob("warmup-*")) == [trained]
    features = copied / "runs" / "small" / "features" / "less" / "manifest.json"
    assert json.loads(features.read_text())["details"]["computed"] == 0
    after = pq.read_table(copied / "runs/small/orderings/less-round_robin/ordering.parquet")
    assert set(after["id"].to_pylist()).isdisjoint(excluded)
