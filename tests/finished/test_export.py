"""An exported cell is the merged model of its own study, or an error that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.small import small_study
from tis_ray.config import Config, parse_config
from tis_ray.errors import InputError
from tis_ray.finished.export import export_adapter
from tis_ray.models import builtin
from tis_ray.models.loading import load_model, model_identity
from tis_ray.models.lora import attach_lora, save_adapter
from tis_ray.settings import LoraConfig
from tis_ray.store import Artifact


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse_config(small_study(tmp_path))


@pytest.fixture
def cell(config: Config) -> Artifact:
    """What a cell leaves of its adapter, here a fresh one that changes nothing."""
    artifact = Artifact(config.artifact_root, "cell", {"model": model_identity(config.model)})
    save_adapter(attach_lora(load_model(config.model), LoraConfig(), 0), artifact / "adapter")
    artifact.commit()
    return artifact


def test_a_cell_becomes_a_plain_model(config: Config, cell: Artifact, tmp_path: Path) -> None:
    out = export_adapter(config, cell / "adapter", tmp_path / "model")
    found = AutoModelForCausalLM.from_pretrained(out).state_dict()
    base = AutoModelForCausalLM.from_pretrained(builtin.PATH).state_dict()
    assert found.keys() == base.keys()
    assert all(torch.equal(found[name], base[name]) for name in base)


def test_a_cell_of_another_base_model_is_refused(
    config: Config, cell: Artifact, tmp_path: Path
) -> None:
    half = config.model.model_copy(update={"dtype": "bfloat16"})
    other = config.model_copy(update={"model": half})
    with pytest.raises(InputError, match="was not trained on builtin as it is now, in bfloat16"):
        export_adapter(other, cell / "adapter", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_whole_model_is_told_to_be_one(config: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a whole model already"):
        export_adapter(config, builtin.PATH, tmp_path / "model")


def test_the_base_model_is_the_one_of_the_grid_that_the_cell_was_trained_on(
    config: Config, tmp_path: Path
) -> None:
    raw = config.model_dump(mode="json") | {"grid": {"model.dtype": ["bfloat16", "float32"]}}
    several = parse_config(raw)
    assert several.model.dtype == "bfloat16"
    artifact = Artifact(config.artifact_root, "cell", {"model": model_identity(config.model)})
    save_adapter(attach_lora(load_model(config.model), LoraConfig(), 0), artifact / "adapter")
    with pytest.raises(InputError, match="is not in a cell's folder, which would say which model"):
        export_adapter(several, artifact / "adapter", tmp_path / "model")
    artifact.commit()
    out = export_adapter(several, artifact / "adapter", tmp_path / "model")
    weights = AutoModelForCausalLM.from_pretrained(out, dtype="auto").state_dict().values()
    assert {value.dtype for value in weights} == {torch.float32}
