"""Saving of models with what prompts them as they were trained: tokenizer, template, end marks.

A whole model (trained whole, or merged with its adapter) is a transformers folder. An adapter is a PEFT
folder (`lora.save_adapter`), with the same companions.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tis_ray.data import Template, end_marks, portable_source
from tis_ray.errors import InputError
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.models.lora import with_adapter
from tis_ray.settings import ModelConfig
from tis_ray.storage import AnyPlace, place
from tis_ray.store import written_folder

PROBE = 16
"""Number of tokens that a merged model is checked on."""


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: AnyPlace,
    template: Template = "tulu",
) -> None:
    """Write model, tokenizer and template as a transformers folder, all of it or nothing."""
    target = place(folder)
    model.generation_config = _valid(model.generation_config)

    def write(to: Path) -> None:
        model.save_pretrained(str(to))
        save_prompting(tokenizer, template, to, model.generation_config)

    if not isinstance(target, Path):
        with written_folder(target) as here:
            write(here)
        return
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    write(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)


def save_prompting(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    folder: AnyPlace,
    generation: GenerationConfig | None = None,
) -> None:
    """Write what other programs need to prompt a model as it was trained.

    The tokenizer with the study's template as its chat template, and a generation config that ends
    answers at the template's marks.

    generation: the model's own settings, of which all others are kept.
    """
    own = copy.deepcopy(tokenizer)
    own.chat_template = portable_source(tokenizer, template)
    ends = end_marks(tokenizer, template).tokens
    settings = _valid(generation)
    settings.eos_token_id = ends or None
    if settings.pad_token_id is None:
        settings.pad_token_id = (
            own.pad_token_id if own.pad_token_id is not None or not ends else ends[0]
        )
    with written_folder(place(folder)) as here:
        own.save_pretrained(str(here))
        settings.save_pretrained(str(here))


def _valid(generation: GenerationConfig | None) -> GenerationConfig:
    """Return a copy of a model's generation settings that can be saved.

    Some models come with settings that transformers reads, but refuses to write, such as a temperature
    without `do_sample`.
    """
    settings = GenerationConfig() if generation is None else copy.deepcopy(generation)
    if settings.pad_token_id is not None and settings.pad_token_id < 0:
        settings.pad_token_id = None
    for correct in ({}, {"do_sample": True}):
        settings.update(**correct)
        try:
            settings.validate(strict=True)
        except ValueError:
            continue
        return settings
    return GenerationConfig()


def export_merged(
    config: ModelConfig,
    adapter: AnyPlace,
    folder: AnyPlace,
    template: Template = "tulu",
) -> None:
    """Merge an adapter into its base model, in float32, and save the result in `config.dtype`.

    Raises InputError if `folder` is not empty, if the adapter does not fit the base model, or if the
    merged model's logits differ from those of model and adapter.
    """
    target = place(folder)
    if target.exists() and any(target.iterdir()):
        raise InputError(f"{folder}: the folder is not empty; give a new one")
    if not (place(adapter) / "adapter_config.json").exists():
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
    tokenizer = load_tokenizer(config)
    save_model(merged.to(getattr(torch, config.dtype)), tokenizer, folder, template)
