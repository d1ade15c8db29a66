"""Orders of trainings: what a process in another folder is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
from tis_ray.stages.cell_training import TrainingOrder


def _order(folder: Path, model: str) -> TrainingOrder:
    training = TrainingConfig(epochs=1, batch_size=1, learning_rate=1e-3)
    return TrainingOrder(
        name="x",
        folder=folder,
        subset=None,
        model=ModelConfig(name=model),
        lora=LoraConfig(),
        shard=False,
        training=training,
        seed=0,
        threads=1,
        device="cpu",
    )


def test_a_model_s_folder_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert _order(tmp_path, "model").model.name == str(tmp_path / "model")
    assert _order(tmp_path, "org/model").model.name == "org/model"
    assert _order(tmp_path, "builtin").model.name == "builtin"
