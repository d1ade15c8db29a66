"""Small models of every causal family that transformers has, made from its own configs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tis_ray.settings import ModelConfig

TOKENIZER = Path(__file__).parents[1] / "golden" / "less" / "tokenizer"
VOCABULARY = 400
POSITIONS = 64
ORIGINAL = 12
"""Length from which the rotary factors of the stretched models change."""

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_size": 32,
    "n_embd": 32,
    "d_model": 32,
    "word_embed_proj_dim": 32,
    "intermediate_size": 64,
    "ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_ffn_dim": 64,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "decoder_layers": 2,
    "encoder_layers": 2,
    "num_hidden_groups": 1,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rotary_dim": 4,
    "max_position_embeddings": POSITIONS,
    "n_positions": POSITIONS,
    "max_seq_len": POSITIONS,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "shared_expert_intermediate_size": 32,
    "vocab_size_per_layer_input": VOCABULARY,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": 8,
    "is_decoder": True,
    "initializer_range": 0.1,
}
"""Sizes, by every name that a config may have for them."""

_EYE: dict[str, Any] = {
    "hidden_size": 16,
    "embed_dim": 16,
    "out_hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_global_layers": 1,
    "depth": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_heads": 2,
    "head_dim": 8,
    "image_size": 28,
    "patch_size": 14,
}
"""Sizes of the parts for images and sound, which no row reaches."""

_LINEAR_ATTENTION = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 4.0, 8.0, 16.0],
    "original_max_position_embeddings": ORIGINAL,
}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}

_OF_FAMILY: Mapping[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 16},
    "dots1": {"first_k_dense_replace": 1},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"],
        "intermediate_size": [64, 64],
        "activation_sparsity_pattern": [0.0, 0.0],
        "laurel_rank": 8,
        "hidden_size_per_layer_input": 8,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
    },
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 4, "num_experts_per_token": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "state_size": 8, "n_groups": 1},
    "prophetnet": {"num_decoder_layers": 2, "num_decoder_attention_heads": 4},
    "qwen3_5": _LINEAR_ATTENTION,
    "qwen3_5_moe": _LINEAR_ATTENTION,
    "qwen3_5_text": _LINEAR_ATTENTION,
    "qwen3_5_moe_text": _LINEAR_ATTENTION,
    "qwen3_next": _LINEAR_ATTENTION,
    "qwen4_exp_text": _LINEAR_ATTENTION,
    "reformer": {"axial_pos_embds": False, "attention_head_size": 8, "attn_layers": ["local"]},
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"layer_types": ["mamba", "hybrid"], "hybrid_layer_ids": [1]},
    "zaya": {"num_experts_per_tok": 1},
}

VARIANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "phi3, longrope": (
        "phi3",
        {
            "rope_parameters": _LONGROPE | {"partial_rotary_factor": 1.0},
            "original_max_position_embeddings": ORIGINAL,
        },
    ),
    "llama, longrope": ("llama", {"rope_parameters": _LONGROPE | {"factor": 4.0}}),
    "llama, dynamic": (
        "llama",
        {"rope_parameters": _DYNAMIC, "max_position_embeddings": ORIGINAL},
    ),
    "qwen2, dynamic": (
        "qwen2",
        {"rope_parameters": _DYNAMIC, "max_position_embeddings": ORIGINAL},
    ),
    "falcon, alibi": ("falcon", {"alibi": True}),
    "opt, projected": ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "bert, encoder": ("bert", {"is_decoder": False}),
}
"""Further models: a family, and what is changed."""


def small_config(kind: str) -> PreTrainedConfig:
    """Return the config of a small model of a family, or of a variant; its dropout and noise are off."""
    family, changes = VARIANTS.get(kind, (kind, _OF_FAMILY.get(kind, {})))
    ready = AutoConfig.for_model(family)
    if "text_config" not in ready.sub_configs:
        return AutoConfig.for_model(family, **(_shape(ready) | changes))
    parts = {name: part for name in ready.sub_configs if (part := getattr(ready, name)) is not None}
    shapes = {
        name: {size: value for size, value in _EYE.items() if size in part.to_dict()}
        for name, part in parts.items()
    }
    shapes["text_config"] = _shape(ready.text_config) | changes
    for name, part in parts.items():
        shapes[name]["model_type"] = part.model_type
    return AutoConfig.for_model(family, **shapes)


def _shape(ready: PreTrainedConfig) -> dict[str, Any]:
    known = {*ready.to_dict(), *type(ready).attribute_map}
    shape = {name: value for name, value in _SHAPE.items() if name in known}
    if "kv_lora_rank" in known:  # each head has keys and values of its own
        shape["num_key_value_heads"] = 4
    for name, value in ready.to_dict().items():
        if isinstance(value, float) and ("drop" in name or "jitter" in name):
            shape[name] = 0.0
    return shape


def parameters(config: PreTrainedConfig) -> int:
    """Return the number of a model's parameters, without making them."""
    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())


def saved_model(kind: str, folder: Path, tokenizer: Path = TOKENIZER) -> ModelConfig:
    """Save a random model and a tokenizer; return the section of a study that names them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small_config(kind)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # norms start at 1 and biases at 0, where mistakes would not show
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    return ModelConfig(name=str(folder))
