"""A LoRA adapter that was trained elsewhere: a PEFT folder, and whether it fits a model.

Whether it fits is found out on torch's `meta` device from the adapter's config and the shapes of its
weights, in seconds whatever the size of the model.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import peft
import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from torch import Size

from tis_ray.errors import InputError
from tis_ray.gradients.lora_tap import lora_taps
from tis_ray.models.loading import load_model, meta_model, model_files
from tis_ray.models.lora import quiet_peft, trainable_parameters, with_adapter
from tis_ray.settings import ModelConfig
from tis_ray.storage import Place, local_file, local_folder
from tis_ray.store import find_json
from tis_ray.store.torch_files import read_torch

log = logging.getLogger(__name__)

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"

_UNSUPPORTED = {
    "use_dora": "is a DoRA adapter",
    "use_qalora": "is a QA-LoRA adapter",
    "use_bdlora": "is a BD-LoRA adapter",
    "velora_config": "is a VeLoRA adapter",
    "kasa_config": "is a KaSA adapter",
    "monteclora_config": "is a MonteCLoRA adapter",
    "arrow_config": "is a router of adapters",
    "alora_invocation_tokens": "is an activated LoRA, which works on some tokens only",
    "lora_bias": "has biases",
    "modules_to_save": "comes with whole modules that were trained (modules_to_save)",
    "trainable_token_indices": "comes with trained embeddings (trainable_token_indices)",
    "target_parameters": "is on parameters of no linear layer (target_parameters)",
    "layer_replication": "repeats layers of the model (layer_replication)",
}
"""Settings of an adapter under which it is more, or something else, than `B A x` beside linear layers."""
_BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin an adapter that change the base model as well; the folder alone is not the model then."""


def is_adapter(folder: Place) -> bool:
    """Return whether a folder is a PEFT folder."""
    return (folder / CONFIG).is_file()


def adapter_config(folder: Place, field: str) -> dict[str, Any]:
    """Return the config of a plain LoRA adapter, as PEFT wrote it.

    Raises InputError, naming the config key, for a folder without one, and for an adapter of which no
    gradients of single rows can be taken.
    """
    if not is_adapter(folder):
        state = "holds no adapter" if folder.is_dir() else "is not a folder"
        raise InputError(
            f"{field}: {folder} {state}; give a PEFT folder, with {CONFIG} and {WEIGHTS}"
        )
    try:
        config = find_json(folder / CONFIG)
    except InputError:
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{field}: {folder / CONFIG} is not a JSON object; save the adapter again")
    if reason := _reason_against(config):
        raise InputError(
            f"{field}: {folder} {reason}; gradients of single rows are taken of plain LoRA weights on "
            "linear layers: give such an adapter, or leave it out and let a warm-up train one"
        )
    return config


def _reason_against(config: Mapping[str, Any]) -> str | None:
    if config.get("peft_type") != "LORA":
        return f"is an adapter of type {config.get('peft_type')}, not LORA"
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        return f"is made for {config['task_type']}, not for a causal language model"
    if config.get("bias", "none") != "none":
        return f"trains biases (bias: {config['bias']})"
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(_BASE_CHANGING):
        return f"began by changing the base model (init_lora_weights: {start})"
    return next((reason for name, reason in _UNSUPPORTED.items() if config.get(name)), None)


def weight_shapes(folder: Place, field: str) -> dict[str, Size]:
    """Return the shape of each weight in a PEFT folder, by PEFT's name; weights themselves stay on disk."""
    try:
        if (folder / WEIGHTS).is_file():
            with safe_open(local_file(folder / WEIGHTS), framework="pt") as file:
                names = list(file.keys())
                return {name: Size(file.get_slice(name).get_shape()) for name in names}
        if (folder / PICKLED).is_file():
            tensors = read_torch(local_file(folder / PICKLED))
            return {name: tensor.shape for name, tensor in tensors.items()}
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{field}: the weights in {folder} cannot be read ({reason}); save the adapter again, as "
            f"{WEIGHTS}"
        ) from None
    raise InputError(
        f"{field}: {folder} has no weights; give a PEFT folder with {WEIGHTS} beside its {CONFIG}"
    )


def adapted_meta_model(folder: Place, config: ModelConfig, field: str) -> PeftModel:
    """Return the model with the folder's adapter attached, on the `meta` device.

    Raises InputError, naming the config key, unless all weights of the adapter belong to modules of
    this model and have their shapes, and gradients of single rows can be taken of them.
    """
    settings = adapter_config(folder, field)
    other = settings.get("base_model_name_or_path") or ""
    name = model_files(config).name
    if other and PurePath(other).name != PurePath(name).name:
        log.warning(
            "%s: %s was trained on %s, and the study reads rows with %s; unless both have the same "
            "weights, set model.name to the adapter's own",
            *(field, folder, other, name),
        )
    lora = peft.LoraConfig.from_pretrained(str(local_folder(folder)))
    lora.inference_mode = False
    lora.init_lora_weights = True
    lora.base_model_name_or_path = name
    base = copy.deepcopy(meta_model(config))
    advice = (
        f"give an adapter of {name}, or set model.name to {other or 'the model it was trained on'}"
    )
    try:
        with torch.device("meta"), quiet_peft():
            model = peft.get_peft_model(base, lora)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{field}: {folder} does not fit {name} ({reason}); {advice}") from None
    expected = {
        key: tensor.shape
        for key, tensor in peft.get_peft_model_state_dict(
            model, save_embedding_layers=False
        ).items()
    }
    try:
        lora_taps(model, trainable_parameters(model))
    except InputError as error:
        raise InputError(f"{field}: {folder}: {error}") from None
    if problem := _difference(weight_shapes(folder, field), expected):
        raise InputError(f"{field}: {folder} does not fit {name}: {problem}; {advice}")
    return model


def _difference(given: Mapping[str, Size], expected: Mapping[str, Size]) -> str | None:
    """Return in words the first difference between an adapter's weights and those a model has room for."""
    other = sorted(given.keys() - expected.keys())
    embeddings = [name for name in other if "lora_" not in name]
    if embeddings:
        return f"it holds {embeddings[0]}, a weight that was trained whole or an embedding"
    if other:
        return f"the model has no place for {other[0]}" + _more(other)
    if missing := sorted(expected.keys() - given.keys()):
        return f"it has no {missing[0]}" + _more(missing)
    wrong = [name for name, shape in given.items() if shape != expected[name]]
    if wrong:
        shapes = tuple(given[wrong[0]]), tuple(expected[wrong[0]])
        return f"{wrong[0]} has shape {shapes[0]}, and the model's is {shapes[1]}" + _more(wrong)
    return None


def _more(names: list[str]) -> str:
    return f" (nor {len(names) - 1} more)" if len(names) > 1 else ""


def load_given_adapter(folder: Place, config: ModelConfig, device: str, field: str) -> PeftModel:
    """Return the model with the folder's adapter, which alone is trained, in float32.

    Raises InputError where a weight of it is not a number.
    """
    model = with_adapter(load_model(config, device), folder, trainable=True)
    for name, parameter in trainable_parameters(model).items():
        if not torch.isfinite(parameter).all():
            raise InputError(
                f"{field}: {folder}: {name} holds NaN or infinite numbers; its training has failed: "
                "give an earlier checkpoint"
            )
    return model
