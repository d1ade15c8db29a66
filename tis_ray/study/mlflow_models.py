"""Trained models as models of MLflow: `mlflow.transformers.load_model("models:/ID")` loads them.

MLflow's flavor reads a model before it writes it, so the base model is loaded in the driver for each
adapter. An adapter is stored without its base, which is named: a folder by its path, a model of the hub
by its id. Its standard PEFT folder lies in the model's artifacts, in `peft`.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tis_ray.storage import Place, local_folder, place
from tis_ray.store import read_json

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

READS = ("torch", "transformers", "accelerate", "peft")
"""Packages that load a model; their versions are kept with it."""
TASK = "text-generation"


def log_model(
    client: MlflowClient, run_id: str, experiment_id: str, name: str, folder: Place
) -> None:
    """Record a model of a run: an adapter's PEFT folder, or a whole model's transformers folder.

    A run that has its model already is left as it is.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    outputs = client.get_run(run_id).outputs
    if outputs and outputs.model_outputs:
        return
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / "model"
        _write(local_folder(folder), written)
        model = client.create_logged_model(experiment_id, name=name, source_run_id=run_id)
        client.log_model_artifacts(model.model_id, str(written))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def _write(folder: Path, path: Path) -> None:
    import mlflow.transformers

    needed = {"path": str(path), "task": TASK, "pip_requirements": _requirements()}
    settings = folder / "adapter_config.json"
    if not settings.exists():
        mlflow.transformers.save_model(str(folder), **needed)
        return
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    base = read_json(settings)["base_model_name_or_path"]
    parts = {
        "model": AutoPeftModelForCausalLM.from_pretrained(folder),
        "tokenizer": AutoTokenizer.from_pretrained(folder),
    }
    local = base if place(base).is_dir() else None
    mlflow.transformers.save_model(parts, base_model_path=local, **needed)


def _requirements() -> list[str]:
    versions = {name: importlib.metadata.version(name) for name in READS}
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]
