"""A model that does not fit its study is refused in one line, before any of its weights is read."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from tests.models.zoo import POSITIONS, VOCABULARY, saved_model
from tis_ray.batches import batch_losses, collate
from tis_ray.errors import InputError
from tis_ray.models.fitness import model_problems
from tis_ray.models.loading import load_model
from tis_ray.settings import LoraConfig, ModelConfig

LLAMA = LoraConfig()
ALL = LoraConfig(targets="all-linear")


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """Save a small model; its weights are removed, because nothing here may need them."""

    def save(kind: str, **changes: Any) -> ModelConfig:
        model = saved_model(kind, tmp_path / "model")
        for weights in Path(model.name).glob("*.safetensors"):
            weights.unlink()
        config = Path(model.name, "config.json")
        config.write_text(json.dumps(json.loads(config.read_text()) | changes))
        return model

    return save


def only(problems: list[str]) -> str:
    (line,) = problems
    assert "\n" not in line
    return line


def test_the_model_that_ships_fits() -> None:
    assert model_problems(ModelConfig(), 512, LLAMA, per_example=True) == []


def test_a_tokenizer_with_more_tokens_than_embeddings(saved: Any) -> None:
    model = saved("llama")
    tokenizer = AutoTokenizer.from_pretrained(model.name)
    tokenizer.add_tokens([AddedToken(f"<{i}>") for i in range(VOCABULARY)])
    tokenizer.save_pretrained(model.name)
    tokens = len(tokenizer)
    assert tokens > VOCABULARY
    line = only(model_problems(model, POSITIONS, LLAMA))
    assert f"has {tokens} tokens, but the model only {VOCABULARY} embeddings; use" in line


@pytest.mark.parametrize("kind", ["gpt2", "opt", "gptj", "mpt", "biogpt", "ctrl"])
def test_rows_beyond_a_table_of_positions(saved: Any, kind: str) -> None:
    model = saved(kind)
    assert model_problems(model, POSITIONS) == []
    line = only(model_problems(model, 2 * POSITIONS))
    assert f"data.max_length: {2 * POSITIONS}, but " in line
    assert f"has a table of {POSITIONS} positions; set data.max_length to {POSITIONS}" in line


@pytest.mark.parametrize("kind", ["llama", "bloom", "xglm", "mamba"])
def test_positions_that_are_computed_do_not_end(saved: Any, kind: str, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, "tis_ray"):
        assert model_problems(saved(kind), 2 * POSITIONS) == []
    warned = f"is made for {POSITIONS} positions" in caplog.text
    assert warned == (kind in ("llama", "xglm"))  # the others have no number of positions


@pytest.mark.parametrize(
    ("kind", "reason", "working"),
    [
        ("mixtral", "is a LoRA ParamWrapper", "k_proj, lm_head, o_proj, q_proj, v_proj"),
        ("qwen3_moe", "is a LoRA ParamWrapper", "k_proj, lm_head, o_proj, q_proj, v_proj"),
        ("phimoe", "a PhimoeTopKRouter, cannot have", "k_proj, lm_head, o_proj, q_proj, v_proj"),
        ("mamba", "incompatible with Mamba", "dt_proj, in_proj, lm_head, x_proj"),
    ],
)
def test_all_linear_where_less_cannot_tap_some(
    saved: Any, kind: str, reason: str, working: str
) -> None:
    model = saved(kind)
    line = only(model_problems(model, 32, ALL, per_example=True))
    assert line.startswith("lora.targets: ")
    assert reason in line
    assert line.endswith(f"; targets that work: {working}")
    names = LoraConfig(targets=working.split(", "))
    assert model_problems(model, 32, names, per_example=True) == []


def test_experts_may_be_trained_where_no_gradient_of_an_example_is_taken(saved: Any) -> None:
    assert model_problems(saved("mixtral"), 32, ALL) == []


def test_targets_that_match_nothing(saved: Any) -> None:
    line = only(model_problems(saved("gpt2"), 32, LLAMA))
    assert line.startswith("lora.targets: 'q_proj' matches no module; this model's linear modules")
    assert line.endswith("targets that work: c_attn, c_fc, c_proj, lm_head")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bart", {"is_encoder_decoder": True}, "(bart) is an encoder-decoder language model"),
        ("llama", {"model_type": "t5"}, "(t5) is an encoder-decoder language model"),
        ("llama", {"model_type": "clip"}, "(clip) is not a causal language model"),
        ("bert, encoder", {}, "(bert) tokens see later ones, so that it is not a causal"),
        (
            "llama",
            {
                "model_type": "new",
                "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"},
            },
            "comes with Python code of its own; read it, and set model.trust_remote_code: true",
        ),
        ("llama", {"model_type": "unheard"}, "cannot be loaded ("),
    ],
)
def test_models_that_are_no_causal_language_model(
    saved: Any, kind: str, changes: dict[str, Any], message: str
) -> None:
    line = only(model_problems(saved(kind, **changes), 32, LLAMA))
    assert line.startswith("model.name: ")
    assert message in line


def test_a_model_that_shows_only_in_use_that_it_is_not_causal(tmp_path: Path) -> None:
    model = saved_model("xlnet", tmp_path / "model")
    assert model_problems(model, 32) == []
    with pytest.raises(InputError, match="tokens see later ones, so that it is not a causal"):
        load_model(model)


def test_seventy_billion_weights_are_checked_without_one_of_them(
    tmp_path: Path, golden_dir: Path
) -> None:
    folder = Path(shutil.copytree(golden_dir / "less" / "tokenizer", tmp_path / "model"))
    shape = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 128256,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    }
    (folder / "config.json").write_text(json.dumps(shape))
    model = ModelConfig(name=str(folder))
    assert model_problems(model, 4096, ALL, per_example=True) == []


def test_the_head_that_is_really_called(tmp_path: Path) -> None:
    """OPT calls the decoder inside its base model, not the base model."""
    base = load_model(saved_model("opt", tmp_path / "model"))
    rows = [{"input_ids": ids, "labels": ids} for ids in ([5, 6, 7], [9, 8, 7, 6, 5])]
    batch = batch_losses(base, collate(rows))
    for row, loss in zip(rows, batch, strict=True):
        alone = batch_losses(base, collate([row]))[0]
        assert float(loss) == pytest.approx(float(alone), rel=1e-6)
