"""Adapters: what is trained, what is saved, and which misfits are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tis_ray.errors import InputError
from tis_ray.models.loading import load_model
from tis_ray.models.lora import (
    attach_lora,
    detach_lora,
    load_adapter,
    save_adapter,
    trainable_parameters,
    with_adapter,
    without_wrapper,
)
from tis_ray.settings import LoraConfig, ModelConfig

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def base(golden_dir: Path) -> Any:
    def load(**changes: Any) -> Any:
        return load_model(ModelConfig(name=str(golden_dir / "less" / "base_model"), **changes))

    return load


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainable_parameters(model).items()}


def randomise(model: Any, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.normal_(std=0.1)
    return model


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_fresh_adapters_change_no_output_and_train_alone(base: Any) -> None:
    before = base()(IDS).logits
    model = attach_lora(base(), LoraConfig(), seed=0).eval()
    assert torch.equal(model(IDS).logits, before)
    names = list(trainable_parameters(model))
    assert len(names) == 2 * 4 * 2  # layers, modules, A and B
    assert all("lora_" in name for name in names)


def test_adapters_are_a_function_of_the_seed_and_leave_the_generator_alone(base: Any) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = weights(attach_lora(base(), LoraConfig(), seed=0))
    assert torch.equal(torch.rand(3), expected)
    assert equal(weights(attach_lora(base(), LoraConfig(), seed=0)), first)
    assert not equal(weights(attach_lora(base(), LoraConfig(), seed=1)), first)


def test_adapters_are_float32_whatever_the_base(base: Any) -> None:
    model = attach_lora(base(dtype="bfloat16"), LoraConfig(), seed=0)
    assert {p.dtype for p in trainable_parameters(model).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("targets", "modules"),
    [("all-linear", 14), (["q_proj", "lm_head"], 3), (["layers.1.self_attn.q_proj"], 1)],
)
def test_targets_pick_modules(base: Any, targets: Any, modules: int) -> None:
    model = attach_lora(base(), LoraConfig(targets=targets), seed=0)
    assert len(trainable_parameters(model)) == 2 * modules


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_proj", "k_porj"], "lora.targets: 'k_porj' matches no module; this model's linear"),
        (["norm"], "lora.targets: ['norm'] cannot have adapters (Target module LlamaRMSNorm"),
    ],
)
def test_a_target_without_an_adapter_is_named_with_those_there_are(
    base: Any, targets: list[str], message: str
) -> None:
    with pytest.raises(InputError) as error:
        attach_lora(base(), LoraConfig(targets=targets), seed=0)
    assert message in str(error.value)
    assert "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj" in str(error.value)
    assert "\n" not in str(error.value)


def test_saving_and_loading_gives_the_same_weights(base: Any, tmp_path: Path) -> None:
    model = randomise(attach_lora(base(), LoraConfig(targets="all-linear"), seed=0)).eval()
    save_adapter(model, tmp_path)
    other = attach_lora(base(), LoraConfig(targets="all-linear"), seed=1)
    assert equal(weights(load_adapter(other, tmp_path)), weights(model))
    plain = with_adapter(base(), tmp_path).eval()
    assert not trainable_parameters(plain)
    assert torch.equal(plain(IDS).logits, model(IDS).logits)
    assert equal(weights(with_adapter(base(), tmp_path, trainable=True)), weights(model))


def test_an_adapter_folder_holds_the_adapter_alone(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", ask)
    model = attach_lora(base(), LoraConfig(), seed=0)
    model.peft_config["default"].base_model_name_or_path = "org/name"
    save_adapter(model, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert len(saved) == len(trainable_parameters(model))
    assert (tmp_path / "adapter_config.json").exists()


def test_a_saved_adapter_is_what_peft_would_have_saved(base: Any, tmp_path: Path) -> None:
    model = randomise(attach_lora(base(), LoraConfig(targets="all-linear"), seed=0))
    save_adapter(model, tmp_path / "ours")
    model.save_pretrained(str(tmp_path / "theirs"), save_embedding_layers=False)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        ours, theirs = (tmp_path / folder / name for folder in ("ours", "theirs"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert not model.peft_config["default"].inference_mode


def test_a_detached_adapter_leaves_the_model_as_it_was(base: Any) -> None:
    plain = base()
    before, logits = plain.state_dict(), plain(IDS).logits
    model = attach_lora(base(), LoraConfig(targets="all-linear"), seed=0)
    names = list(trainable_parameters(model))
    detached = detach_lora(randomise(model)).eval()
    after = detached.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not trainable_parameters(detached)
    assert torch.equal(detached(IDS).logits, logits)
    fresh = weights(attach_lora(base(), LoraConfig(targets="all-linear"), seed=3))
    again = weights(attach_lora(detached, LoraConfig(targets="all-linear"), seed=3))
    assert list(again) == names
    assert equal(again, fresh)


@pytest.mark.parametrize(
    "saved",
    [LoraConfig(targets=["q_proj"]), LoraConfig(targets="all-linear"), LoraConfig(rank=4)],
    ids=["fewer modules", "more modules", "another rank"],
)
def test_an_adapter_that_does_not_fit_is_refused(
    base: Any, tmp_path: Path, saved: LoraConfig
) -> None:
    """PEFT would load what fits and leave the rest as it was: one checkpoint inside another."""
    save_adapter(attach_lora(base(), saved, seed=0), tmp_path)
    with pytest.raises(InputError, match=r"does not fit this model: .*lora_") as error:
        load_adapter(attach_lora(base(), LoraConfig(), seed=0), tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_an_adapter_is_named(base: Any, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"contains no adapter \(adapter_model\.safetensors is miss"
    ):
        load_adapter(attach_lora(base(), LoraConfig(), seed=0), tmp_path)


def test_the_wrapper_comes_off_and_the_adapter_stays(base: Any) -> None:
    plain = base()
    assert without_wrapper(plain) is plain
    model = randomise(attach_lora(base(), LoraConfig(), seed=0)).eval()
    assert torch.equal(without_wrapper(model)(IDS).logits, model(IDS).logits)
    assert not torch.equal(model(IDS).logits, plain(IDS).logits)
