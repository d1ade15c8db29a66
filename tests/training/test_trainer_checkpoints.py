"""Checkpoints of a real transformers Trainer: each moment belongs to its parameter, or is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import Trainer, TrainingArguments

from tis_ray.errors import InputError
from tis_ray.models.given_adapter import adapted_meta_model
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora, trainable_parameters, with_adapter
from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
from tis_ray.training.checkpoints import Checkpoint
from tis_ray.training.loop import train
from tis_ray.training.trainer_checkpoints import (
    GivenCheckpoint,
    learning_rates,
    trainer_checkpoints,
)

MODEL = ModelConfig()
LORA = LoraConfig(rank=4, targets=["q_proj", "v_proj", "o_proj", "down_proj"])
ROWS = [
    {"input_ids": [5 + i, 6, 7, 8 + 3 * i, 9, 11 + i], "labels": [-100, -100, 7, 8 + 3 * i, 9, 11]}
    for i in range(6)
]
STEPS = 20
"""One batch holds every row, so that an order of theirs cannot differ."""


def adapted() -> PeftModel:
    return attach_lora(load_model(MODEL), LORA, seed=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a Trainer: checkpoints after 4, 8, ..., 20 steps."""
    folder = tmp_path_factory.mktemp("trainer")
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=STEPS,
        per_device_train_batch_size=len(ROWS),
        learning_rate=1e-3,
        save_steps=4,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    rows = [{**row, "attention_mask": [1] * 6} for row in ROWS]
    Trainer(model=adapted(), args=arguments, train_dataset=rows).train()
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The last checkpoint of our own loop, on the same rows with the same settings."""
    config = TrainingConfig(
        epochs=STEPS, batch_size=len(ROWS), learning_rate=1e-3, warmup_ratio=0.0
    )
    return train(adapted(), ROWS, config, seed=0, folder=tmp_path_factory.mktemp("ours"))[-1]


@pytest.fixture
def last(trained: Path, tmp_path: Path) -> GivenCheckpoint:
    """A copy of the last checkpoint, which a test may change."""
    shutil.copytree(trained / "checkpoint-20", tmp_path / "checkpoint-20")
    return GivenCheckpoint(tmp_path / "checkpoint-20", "less.adapter")


def optimizer(checkpoint: GivenCheckpoint) -> dict:
    return torch.load(checkpoint.path / "optimizer.pt", weights_only=True)


def with_weights(checkpoint: GivenCheckpoint) -> PeftModel:
    return with_adapter(load_model(MODEL), checkpoint.path, trainable=True)


def read_and_checked(checkpoint: GivenCheckpoint) -> None:
    moments = checkpoint.moments(adapted_meta_model(checkpoint.path, MODEL, checkpoint.field))
    checkpoint.check_moments(with_weights(checkpoint), moments)


def refusal(checkpoint: GivenCheckpoint) -> str:
    with pytest.raises(InputError) as refused:
        read_and_checked(checkpoint)
    (line,) = str(refused.value).splitlines()
    assert line.startswith("less.adapter: ")
    assert "pool_direction: sgd" in line
    return line


def test_moments_are_those_of_our_own_loop_by_name(last, ours):
    found = last.moments(adapted_meta_model(last.path, MODEL, "less.adapter"))
    for moments, expected in zip(found, ours.moments(), strict=True):
        assert moments.keys() == expected.keys()
        for name, moment in moments.items():
            torch.testing.assert_close(moment, expected[name], rtol=5e-3, atol=1e-6, msg=name)


def test_numbers_are_read_through_the_groups_and_not_as_positions(last):
    """Renumbered throughout, a state says the same."""
    meta = adapted_meta_model(last.path, MODEL, "less.adapter")
    before = last.moments(meta)
    state = optimizer(last)
    numbers = state["param_groups"][0]["params"]
    renamed = {number: 7 * number + 3 for number in numbers}
    state["param_groups"][0]["params"] = [renamed[number] for number in numbers]
    state["state"] = {renamed[n]: values for n, values in reversed(state["state"].items())}
    torch.save(state, last.path / "optimizer.pt")
    for moments, expected in zip(last.moments(meta), before, strict=True):
        assert all(torch.equal(moments[name], expected[name]) for name in expected)


def test_own_moments_agree_with_the_weights(trained):
    """Of every checkpoint, early ones too: what is refused is shown below."""
    for checkpoint in trainer_checkpoints(trained, "less.warmup.checkpoints"):
        read_and_checked(checkpoint)


@pytest.mark.parametrize("order", ["reversed layers", "a pair", "shapes"])
def test_a_shuffled_state_does_not_go_unnoticed(last, order):
    meta = adapted_meta_model(last.path, MODEL, "less.adapter")
    names = list(trainable_parameters(meta))
    state = optimizer(last)
    values = [state["state"][number] for number in range(len(names))]
    if order == "shapes":
        values.insert(0, values.pop())
    else:
        half = len(names) // 2
        count = half if order == "reversed layers" else 2  # 2: A and B of one module
        values[:count], values[half : half + count] = values[half : half + count], values[:count]
    state["state"] = dict(enumerate(values))
    torch.save(state, last.path / "optimizer.pt")
    line = refusal(last)
    assert ("has exp_avg of shape" if order == "shapes" else "in another order") in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["state"][1].pop("exp_avg_sq"), "is not of AdamW"),
        (lambda s: s["state"].pop(5), "it has nothing"),
        (
            lambda s: s["state"].update(
                {n: {"step": 1, "state1": torch.zeros(4, dtype=torch.uint8)} for n in s["state"]}
            ),
            "it has step, state1",
        ),
        (lambda s: s["param_groups"][0]["params"].pop(), "has groups of"),
        (
            lambda s: s["param_groups"][1]["params"].append(s["param_groups"][0]["params"].pop()),
            "has groups of",
        ),
        (lambda s: s.pop("param_groups"), "no `param_groups` and `state`"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(last, change, words):
    state = optimizer(last)
    change(state)
    torch.save(state, last.path / "optimizer.pt")
    assert words in refusal(last)


class Bomb:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return Path.touch, (self.file,)


def test_nothing_is_unpickled(last, tmp_path):
    exploded = tmp_path / "exploded"
    (last.path / "training_args.bin").write_bytes(pickle.dumps(Bomb(exploded)))
    last.moments(adapted_meta_model(last.path, MODEL, "less.adapter"))
    torch.save({"state": Bomb(exploded)}, last.path / "optimizer.pt")
    assert "cannot be read as tensors alone" in refusal(last)
    assert not exploded.exists()


@pytest.mark.parametrize("part", ["global_step20/", "optimizer_0/", "optimizer.bin"])
def test_a_state_in_parts_is_refused_with_the_cure(last, part):
    (last.path / "optimizer.pt").unlink()
    assert not last.has_moments
    if part.endswith("/"):
        (last.path / part).mkdir()
    else:
        (last.path / part).touch()
    with pytest.raises(InputError, match=r"in parts .* moments are estimated"):
        _ = last.has_moments


def test_checkpoints_come_by_steps_and_are_weighed_by_the_rates_of_their_spans(trained):
    found = trainer_checkpoints(trained, "less.warmup.checkpoints")
    assert [checkpoint.step for checkpoint in found] == [4, 8, 12, 16, 20]
    history = json.loads((trained / "checkpoint-20" / "trainer_state.json").read_text())
    rates = [e["learning_rate"] for e in history["log_history"] if "learning_rate" in e]
    log = learning_rates(found)
    assert [step["learning_rate"] for step in log] == rates
    assert [step["epoch"] for step in log] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4
    some = [step["epoch"] for step in learning_rates([found[1], found[3]])]
    assert some == [1] * 8 + [2] * 8
    assert learning_rates(found[:1]) == []


def test_a_span_without_a_logged_rate_is_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "checkpoint-20" / "trainer_state.json"
    state = json.loads(file.read_text())
    state["log_history"] = [e for e in state["log_history"] if not 4 < e["step"] <= 8]
    file.write_text(json.dumps(state))
    with pytest.raises(InputError, match="no learning rate was logged in steps 5 to 8"):
        learning_rates(trainer_checkpoints(tmp_path / "run", "less.warmup.checkpoints"))


def test_a_checkpoint_without_an_adapter_is_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "checkpoint-8" / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"checkpoint-8 holds no adapter_config\.json"):
        trainer_checkpoints(tmp_path / "run", "less.warmup.checkpoints")
