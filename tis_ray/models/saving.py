"""Saving of whole models as transformers folders: one trained whole, or merged with its adapter.

An adapter by itself is saved as a PEFT folder by `lora.save_adapter`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tis_ray.errors import InputError
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.models.lora import with_adapter
from tis_ray.settings import ModelConfig

PROBE = 16
"""Number of tokens that a merged model is checked on."""


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path
) -> None:
    """Write model and tokenizer as a transformers folder, all of it or nothing."""
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(temporary))
    tokenizer.save_pretrained(str(temporary))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


def export_merged(config: ModelConfig, adapter: str | Path, folder: str | Path) -> None:
    """Merge an adapter into its base model, in float32, and save the result in `config.dtype`.

    Raises InputError if `folder` is not empty, if the adapter does not fit the base model, or if the
    merged model's logits differ from those of model and adapter.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: the folder is not empty; give a new one")
    if not (Path(adapter) / "adapter_config.json").exists():
        raise InputError(f"{adapter}: contains no adapter (adapter_config.json is missing)")
    base = load_model(config.model_copy(update={"dtype": "float32"}))
    model = with_adapter(base, adapter)
    count = base.get_input_embeddings().num_embeddings
    ids = torch.arange(PROBE)[None] * (count // PROBE)
    with torch.inference_mode():
        apart = model(ids).logits
        merged = model.merge_and_unload()
        together = merged(ids).logits
    if not torch.allclose(together, apart, rtol=1e-4, atol=1e-4):
        raise InputError(
            f"{adapter}: cannot be merged: an adapted layer shares its weights with another "
            f"(logits differ by {float((together - apart).abs().max()):.2g}); use the adapter itself"
        )
    save_model(merged.to(getattr(torch, config.dtype)), load_tokenizer(config), folder)
