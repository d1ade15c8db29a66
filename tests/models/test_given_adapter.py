"""Adapters of the user's own: those that fit are taken, others are refused in a line, before any work."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tis_ray.errors import InputError
from tis_ray.models.given_adapter import adapted_meta_model, load_given_adapter
from tis_ray.models.loading import load_model
from tis_ray.models.lora import trainable_parameters
from tis_ray.settings import ModelConfig

MODEL = ModelConfig()


def saved(folder: Path, config: peft.PeftConfig | None = None, **changes: Any) -> Path:
    """Save an adapter of the shipped model; `changes` are made in its adapter_config.json."""
    config = config or peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    peft.get_peft_model(load_model(MODEL), config).save_pretrained(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as refused:
        adapted_meta_model(folder, MODEL, "less.adapter")
    (line,) = str(refused.value).splitlines()
    assert line.startswith("less.adapter: ")
    assert str(folder) in line
    return line


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
        peft.LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.1),
        peft.LoraConfig(r=3, target_modules=["o_proj"], use_rslora=True),
        peft.LoraConfig(r=4, target_modules=["q_proj", "k_proj"], rank_pattern={"k_proj": 2}),
        peft.LoraConfig(r=2, target_modules=r".*\.1\.self_attn\.q_proj"),
        peft.LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[0]),
    ],
)
def test_a_plain_adapter_fits_whatever_its_shape(tmp_path, config):
    folder = saved(tmp_path, config)
    meta = adapted_meta_model(folder, MODEL, "less.adapter")
    loaded = load_given_adapter(folder, MODEL, "cpu", "less.adapter")
    assert {parameter.device.type for parameter in meta.parameters()} == {"meta"}
    shapes = [{n: p.shape for n, p in trainable_parameters(m).items()} for m in (meta, loaded)]
    assert shapes[0] == shapes[1]


def test_pickled_weights_are_read_too(tmp_path):
    folder = saved(tmp_path)
    weights = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(weights, folder / "adapter_model.bin")
    adapted_meta_model(folder, MODEL, "less.adapter")
    loaded = trainable_parameters(load_given_adapter(folder, MODEL, "cpu", "less.adapter"))
    for name, weight in weights.items():
        assert torch.equal(loaded[name.replace(".weight", ".default.weight")], weight)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (peft.LoraConfig(target_modules=["q_proj"], use_dora=True), "is a DoRA adapter"),
        (peft.LoraConfig(target_modules=["q_proj"], bias="all"), "trains biases"),
        (
            peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"]),
            "modules_to_save",
        ),
        (peft.LoraConfig(target_modules=["q_proj"], trainable_token_indices=[1]), "embeddings"),
        (peft.LoraConfig(target_modules=["embed_tokens"]), "is a LoRA Embedding layer"),
        (
            peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
            "is an adapter of type IA3, not LORA",
        ),
        (
            peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
            "is an adapter of type PREFIX_TUNING, not LORA",
        ),
    ],
)
def test_what_has_no_gradients_of_single_rows_is_refused(tmp_path, config, words):
    assert words in refusal(saved(tmp_path, config))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task_type": "SEQ_CLS"}, "is made for SEQ_CLS"),
        ({"init_lora_weights": "pissa_niter_16"}, "began by changing the base model"),
        ({"r": 8}, "has shape (4, 128), and the model's is (8, 128)"),
        ({"target_modules": ["q_proj"]}, "the model has no place for base_model.model"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "it has no base_model.model"),
        ({"target_modules": ["c_attn"]}, "does not fit"),
    ],
)
def test_an_adapter_of_another_model_is_refused(tmp_path, changes, words):
    assert words in refusal(saved(tmp_path, **changes))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "holds no adapter"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "is not a JSON object"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no weights"),
        (
            lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 30),
            "cannot be read",
        ),
    ],
)
def test_a_folder_that_is_cut_or_empty_is_refused(tmp_path, spoil, words):
    folder = saved(tmp_path)
    spoil(folder)
    assert words in refusal(folder)


def test_a_weight_that_is_no_number_is_refused(tmp_path):
    file = saved(tmp_path) / "adapter_model.safetensors"
    weights = load_file(file)
    next(iter(weights.values()))[0, 0] = torch.nan
    save_file(weights, file)
    with pytest.raises(InputError, match="holds NaN or infinite numbers"):
        load_given_adapter(tmp_path, MODEL, "cpu", "less.adapter")


def test_a_base_model_of_another_name_is_warned_of(tmp_path, caplog):
    folder = saved(tmp_path, base_model_name_or_path="meta-llama/Llama-2-7b-hf")
    with caplog.at_level(logging.WARNING):
        adapted_meta_model(folder, MODEL, "less.adapter")
    assert "was trained on meta-llama/Llama-2-7b-hf" in caplog.text
