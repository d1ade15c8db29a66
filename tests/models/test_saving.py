"""Saved models are plain folders: transformers and PEFT load them and give the same logits."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from tis_ray.data import Message, encode_prompt, end_marks
from tis_ray.errors import InputError
from tis_ray.models import builtin
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.models.lora import attach_lora, save_adapter, trainable_parameters
from tis_ray.models.saving import export_merged, save_model
from tis_ray.settings import LoraConfig, ModelConfig

IDS = torch.arange(40, 80)[None]
MODEL = ModelConfig()


def adapted(**lora: Any) -> Any:
    """The shipped model with an adapter that changes it."""
    model = attach_lora(load_model(MODEL), LoraConfig(**lora), seed=0).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.normal_(std=0.05)
    return model


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(IDS).logits.float()


def test_an_adapter_and_its_merged_model_give_the_logits_of_training(tmp_path: Path) -> None:
    """To 1e-5 of the largest logit, which the adapter moves by more than its size."""
    model = adapted(targets="all-linear")
    truth = logits(model)
    save_adapter(model, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(builtin.PATH)
    scale = float(truth.abs().max())
    assert float((logits(base) - truth).abs().max()) > scale / 10
    plain = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert float((logits(plain) - truth).abs().max()) < 1e-5 * scale
    export_merged(MODEL, tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert float((logits(merged) - truth).abs().max()) < 1e-5 * scale
    assert not list((tmp_path / "merged").glob("adapter*"))


def test_a_folder_has_the_tokenizer(tmp_path: Path) -> None:
    save_model(load_model(MODEL), load_tokenizer(MODEL), tmp_path / "model")
    found = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert (
        found("Plums, 3 of them")["input_ids"]
        == load_tokenizer(MODEL)("Plums, 3 of them")["input_ids"]
    )
    assert found.eos_token == load_tokenizer(MODEL).eos_token


def test_a_saved_model_has_the_same_logits_and_replaces_a_half_written_one(tmp_path: Path) -> None:
    model = load_model(MODEL)
    (tmp_path / ".model.tmp").mkdir()
    (tmp_path / ".model.tmp" / "half").write_text("half")
    for _ in range(2):
        save_model(model, load_tokenizer(MODEL), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "half").exists()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(logits(found), logits(model))


def test_a_model_is_merged_in_float32_and_saved_in_its_own_type(tmp_path: Path) -> None:
    model = adapted()
    save_adapter(model, tmp_path / "adapter")
    half = ModelConfig(dtype="bfloat16")
    export_merged(half, tmp_path / "adapter", tmp_path / "merged")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {parameter.dtype for parameter in found.parameters()} == {torch.bfloat16}
    merged = model.merge_and_unload()
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, merged.state_dict()[name].to(torch.bfloat16))


def test_a_layer_that_shares_its_weights_cannot_be_merged(tmp_path: Path) -> None:
    """The head of the shipped model is its embedding: merged there, the input would change as well."""
    save_adapter(adapted(targets=["lm_head"]), tmp_path / "adapter")
    with pytest.raises(InputError, match="shares its weights with another"):
        export_merged(MODEL, tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    save_adapter(adapted(), tmp_path / "adapter")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not empty"):
        export_merged(MODEL, tmp_path / "adapter", tmp_path / "merged")
    assert (tmp_path / "merged" / "thesis.txt").read_text() == "years of work"


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: contains no adapter \(adapter_config\.json"):
        export_merged(MODEL, tmp_path / "nowhere", tmp_path / "merged")


@pytest.mark.parametrize("template", ["tulu", "chatml"])
def test_others_prompt_a_model_as_it_was_trained(tmp_path: Path, template: Any) -> None:
    """In a fresh process, which knows nothing of this package."""
    tokenizer = load_tokenizer(MODEL)
    save_model(load_model(MODEL), tokenizer, tmp_path / "model", template)
    script = (
        "import sys, json; from transformers import AutoTokenizer, GenerationConfig\n"
        "own = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "turns = [{'role': 'user', 'content': 'Sort the letters: hello'}]\n"
        "ids = own.apply_chat_template(turns, add_generation_prompt=True)['input_ids']\n"
        "ends = GenerationConfig.from_pretrained(sys.argv[1]).eos_token_id\n"
        "print(json.dumps([ids, ends, 'tis_ray' in sys.modules]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model")]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ids, ends, ours = json.loads(out)
    question: Message = {"role": "user", "content": "Sort the letters: hello"}
    assert ids == encode_prompt([question], tokenizer, template)
    assert ends == end_marks(tokenizer, template).tokens
    assert not ours


def test_settings_that_cannot_be_written_do_not_cost_a_trained_model(tmp_path: Path) -> None:
    """Llama 2 has a temperature without `do_sample`, which transformers reads but does not write."""
    model = load_model(MODEL)
    model.generation_config.temperature = 0.6
    model.generation_config.pad_token_id = -1
    save_model(model, load_tokenizer(MODEL), tmp_path / "model")
    settings = GenerationConfig.from_pretrained(tmp_path / "model")
    assert settings.temperature == 0.6
    assert settings.pad_token_id == load_tokenizer(MODEL).pad_token_id


@pytest.mark.parametrize("mark", ["###", ""])
@pytest.mark.parametrize("eos", [True, False])
def test_a_model_whose_end_mark_is_no_token_can_be_used(
    tmp_path: Path, mark: str, eos: bool
) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(MODEL))
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}" + mark + "\n{% endfor %}"
    if not eos:
        tokenizer.eos_token = tokenizer.pad_token = None
    save_model(load_model(MODEL), tokenizer, tmp_path / "model", "chat")
    chat = pipeline("text-generation", model=str(tmp_path / "model"))
    (said,) = chat([{"role": "user", "content": "hello"}], max_new_tokens=2)
    assert said["generated_text"][-1]["role"] == "assistant"
