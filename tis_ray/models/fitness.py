"""What is wrong with a model for a study, found out before anything is computed.

The model is built from its config on torch's `meta` device, where tensors have shapes but no memory: a
model of 70 billion weights takes seconds, and none of its weights is read. What cannot be seen in
shapes is found where the weights are: see `loading.load_model`, `gradients.check_per_example` and
`batches.check_packing`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from itertools import chain

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

from tis_ray.errors import InputError
from tis_ray.gradients.lora_tap import lora_taps
from tis_ray.models.loading import load_tokenizer, meta_model
from tis_ray.models.lora import attach_lora, linear_names, trainable_parameters
from tis_ray.settings import LoraConfig, ModelConfig

log = logging.getLogger(__name__)


def model_problems(
    config: ModelConfig, max_length: int, lora: LoraConfig | None = None, per_example: bool = False
) -> list[str]:
    """Return what keeps a model from this use, one line each, with the cure; empty if it fits.

    max_length: the longest row in tokens.
    lora: the adapters that it gets; None if it is trained whole, or only read.
    per_example: whether gradients of single examples are taken of these adapters (LESS).
    """
    try:
        model = meta_model(config)
        return [
            *_token_problems(config, model),
            *_position_problems(config, model, max_length),
            *(_adapter_problems(model, lora, per_example) if lora else ()),
        ]
    except InputError as error:
        return [str(error)]


def _token_problems(config: ModelConfig, model: PreTrainedModel) -> Iterator[str]:
    tokens = max(load_tokenizer(config).get_vocab().values()) + 1
    embeddings = model.get_input_embeddings().weight.shape[0]
    if tokens > embeddings:
        yield (
            f"model.name: the tokenizer of {config.name} has {tokens} tokens, but the model only "
            f"{embeddings} embeddings; use the tokenizer that belongs to the model, or resize the "
            "model's embeddings (resize_token_embeddings) and save it"
        )


def _position_problems(
    config: ModelConfig, model: PreTrainedModel, max_length: int
) -> Iterator[str]:
    shape = model.config.get_text_config()
    positions = getattr(shape, "max_position_embeddings", None)
    slopes = getattr(shape, "max_seq_len", None)  # MPT makes so many, and cannot take more
    ends = positions is None and slopes is not None
    positions = slopes if ends else positions
    if not isinstance(positions, int) or max_length <= positions:
        return
    if ends or _has_position_table(model, positions):
        yield (
            f"data.max_length: {max_length}, but {config.name} has a table of {positions} positions; "
            f"set data.max_length to {positions} or less"
        )
    else:
        log.warning(
            "data.max_length: %d, but %s is made for %d positions; it may be worse on longer rows",
            *(max_length, config.name, positions),
        )


def _has_position_table(model: PreTrainedModel, positions: int) -> bool:
    """Return whether a model looks positions up in a table, which ends, rather than computing them.

    A table has a row for each position, or one or two more (OPT, RoBERTa); it is an embedding, or a
    tensor that is not trained (the sines of GPT-J and CTRL).
    """
    words = model.get_input_embeddings()
    for module in model.modules():
        grows = hasattr(module, "make_weights")  # a table of sines, made larger when it ends
        if module is words or isinstance(module, nn.Linear) or grows:
            continue
        tensors = chain(module.buffers(recurse=False), vars(module).values())
        if isinstance(module, nn.Embedding):
            tensors = chain(tensors, [module.weight])
        for tensor in tensors:
            if isinstance(tensor, Tensor) and not {*range(positions, positions + 3)}.isdisjoint(
                tensor.shape
            ):
                return True
    return False


def _adapter_problems(model: PreTrainedModel, lora: LoraConfig, per_example: bool) -> Iterator[str]:
    problem = _adapter_problem(model, lora, per_example)
    if problem is None:
        return
    working: list[str] = []
    for name in linear_names(model):
        wider = lora.model_copy(update={"targets": [*working, name]})
        if _adapter_problem(model, wider, per_example) is None:
            working.append(name)
    yield f"{problem}; targets that work: {', '.join(working) or 'none'}"


def _adapter_problem(model: PreTrainedModel, lora: LoraConfig, per_example: bool) -> str | None:
    """Return what is wrong with these adapters, or None."""
    try:
        with torch.device("meta"):
            adapted = attach_lora(copy.deepcopy(model), lora, seed=0)
        if per_example:
            lora_taps(adapted, trainable_parameters(adapted))
        _try_adapters(adapted)
    except InputError as error:
        field = "lora.targets: "
        return field + str(error).removeprefix(field)
    return None


def _try_adapters(model: PeftModel) -> None:
    """Raise InputError for a layer that is linear by name only: its output is not its width, or a tuple."""
    tried = set()
    for name, module in model.named_modules():
        kind = type(module), type(getattr(module, "base_layer", None))
        if isinstance(module, LoraLinear) and kind not in tried:
            tried.add(kind)
            dtype = next(module.base_layer.parameters()).dtype
            x = torch.zeros(1, 2, module.in_features, dtype=dtype, device="meta")
            try:
                fits = module(x).shape == (1, 2, module.out_features)
            except (AttributeError, TypeError, ValueError, RuntimeError):
                fits = False
            if not fits:
                raise InputError(f"module {name!r}, a {kind[1].__name__}, cannot have an adapter")
