"""A trained cell as one plain model: its adapter merged into the study's base model."""

from __future__ import annotations

from tis_ray.config import Config, plan
from tis_ray.errors import InputError
from tis_ray.models.loading import model_identity
from tis_ray.models.saving import export_merged
from tis_ray.settings import ModelConfig
from tis_ray.storage import AnyPlace, Place, place
from tis_ray.store import read_manifest


def export_adapter(config: Config, adapter: AnyPlace, out: AnyPlace) -> Place:
    """Merge `adapter` into the base model of its study and write model and tokenizer to `out`; return it.

    Of a file of several studies, the base model is that of the study whose cell left the adapter.
    Raises InputError if none of them has it, and as `export_merged` does.
    """
    adapter, out = place(adapter), place(out)
    if (adapter / "config.json").exists():
        raise InputError(f"{adapter}: is a whole model already; use it as it is")
    export_merged(_base_model(config, adapter), adapter, out, config.data.template)
    return out


def _base_model(config: Config, adapter: Place) -> ModelConfig:
    """Return the model that an adapter was trained on; of an adapter of no cell, the config's."""
    models: list[ModelConfig] = []
    for study in plan(config).values():
        if study.model not in models:
            models.append(study.model)
    if not (adapter.parent / "manifest.json").exists():
        if len(models) > 1:
            raise InputError(
                f"{adapter}: is not in a cell's folder, which would say which model of the grid it "
                "belongs to; give the config of its study"
            )
        return models[0]
    trained_on = read_manifest(adapter.parent).inputs.get("model")
    for model in models:
        if model_identity(model) == trained_on:
            return model
    known = " or ".join(f"{model.name} as it is now, in {model.dtype}" for model in models)
    raise InputError(f"{adapter}: was not trained on {known}; give the config of its study")
