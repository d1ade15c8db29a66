"""A trained cell as one plain model: its adapter merged into the study's base model."""

from __future__ import annotations

from pathlib import Path

from tis_ray.config import Config
from tis_ray.errors import InputError
from tis_ray.models.loading import model_identity
from tis_ray.models.saving import export_merged
from tis_ray.store import read_manifest


def export_adapter(config: Config, adapter: str | Path, out: str | Path) -> Path:
    """Merge `adapter` into `config.model` and write model and tokenizer to `out`; return it.

    Raises InputError if the adapter is a cell's that was trained on another base model, and as
    `export_merged` does.
    """
    adapter, out = Path(adapter), Path(out)
    if (adapter / "config.json").exists():
        raise InputError(f"{adapter}: is a whole model already; use it as it is")
    if (adapter.parent / "manifest.json").exists():
        trained_on = read_manifest(adapter.parent).inputs.get("model")
        if trained_on != model_identity(config.model):
            raise InputError(
                f"{adapter}: was not trained on {config.model.name} as it is now, in "
                f"{config.model.dtype}; give the config of its study"
            )
    export_merged(config.model, adapter, out)
    return out
