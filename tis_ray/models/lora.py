"""Attaching, saving and loading LoRA adapters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import peft
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tis_ray.errors import InputError
from tis_ray.settings import LoraConfig
from tis_ray.storage import AnyPlace, local_file, local_folder, place
from tis_ray.store import written_folder

_LINEAR = (torch.nn.Linear, Conv1D)

CausalLM: TypeAlias = PreTrainedModel | PeftModel
"""A causal language model of transformers, with or without an adapter."""


def attach_lora(model: PreTrainedModel, config: LoraConfig, seed: int) -> PeftModel:
    """Return `model` with new adapters (float32, A random by `seed`, B zero), which alone are trained.

    Raises InputError if a name in `config.targets` matches no module, or one that cannot have an
    adapter.
    """
    linear = ", ".join(linear_names(model))
    _check_targets(model, config.targets, linear)
    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(
                model,
                peft.LoraConfig(
                    r=config.rank,
                    lora_alpha=config.alpha,
                    lora_dropout=config.dropout,
                    target_modules=config.targets,
                    task_type="CAUSAL_LM",
                ),
            )
        except ValueError as error:
            raise InputError(
                f"lora.targets: {config.targets} cannot have adapters ({error}); "
                f"this model's linear modules are {linear}"
            ) from None


def _check_targets(model: PreTrainedModel, targets: str | list[str], linear: str) -> None:
    """Reject a name that matches nothing; PEFT does so only if none of the names match."""
    modules = [f".{name}" for name, _ in model.named_modules()]
    for target in [] if targets == "all-linear" else targets:
        if not any(module.endswith(f".{target}") for module in modules):
            raise InputError(
                f"lora.targets: {target!r} matches no module; "
                f"this model's linear modules are {linear}"
            )


def linear_names(model: PreTrainedModel) -> list[str]:
    """Return the last names of a model's linear modules, each once, sorted."""
    modules = dict(model.named_modules()).items()
    return sorted({name.split(".")[-1] for name, m in modules if isinstance(m, _LINEAR)})


def without_wrapper(model: CausalLM) -> PreTrainedModel:
    """Return the transformers model inside PEFT's wrapper, adapters included."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def trainable_parameters(model: CausalLM) -> dict[str, torch.nn.Parameter]:
    """Return the trainable parameters by name, in `named_parameters` order."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def detach_lora(model: PeftModel) -> PreTrainedModel:
    """Return the transformers model as it was before `attach_lora`; `model` is unusable afterwards."""
    return model.unload()


def save_adapter(model: PeftModel, folder: AnyPlace) -> None:
    """Write a standard PEFT adapter folder: the weights and config that PEFT itself would write.

    PEFT's model card is left out: it is an empty form, and takes longer to write than all the rest.
    """
    # Embedding layers hold no trained weights; to find that out, PEFT would query the hub.
    tensors = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    config = copy.copy(model.peft_config["default"])
    config.inference_mode = True
    with written_folder(place(folder)) as here:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            here / peft.utils.SAFETENSORS_WEIGHTS_NAME,
            metadata={"format": "pt"},
        )
        config.save_pretrained(str(here))


def load_adapter(model: PeftModel, folder: AnyPlace) -> PeftModel:
    """Replace all weights of an attached adapter by those saved in `folder`.

    Raises InputError if the folder contains no adapter, or one of another shape.
    """
    file = place(folder) / peft.utils.SAFETENSORS_WEIGHTS_NAME
    if not file.exists():
        raise InputError(f"{folder}: contains no adapter ({file.name} is missing)")
    try:
        result = peft.set_peft_model_state_dict(model, load_file(local_file(file)))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{folder}: the adapter does not fit this model: {reason}") from None
    missing = [name for name in result.missing_keys if "lora_" in name]
    for name in [*result.unexpected_keys, *missing]:
        raise InputError(f"{folder}: the adapter does not fit this model: {name}")
    return model


def with_adapter(model: PreTrainedModel, folder: AnyPlace, trainable: bool = False) -> PeftModel:
    """Return `model` with the adapter saved in `folder`."""
    with quiet_peft():
        return PeftModel.from_pretrained(
            model, str(local_folder(place(folder))), is_trainable=trainable
        )


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Keep PEFT's deprecation notes from users: it reads an attribute that transformers will rename."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
