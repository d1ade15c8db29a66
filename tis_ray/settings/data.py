"""Where rows come from, and how they become tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from tis_ray.section import Section, Seed
from tis_ray.settings.template import TemplateChoice, TemplateConfig


def _source(value: object) -> object:
    """Read the short forms of a source: a path, or `hub:org/name`."""
    if isinstance(value, dict | Source):
        return value
    if not isinstance(value, str):
        raise ValueError("give a path, `hub:org/name`, or a section with a `kind`")
    if value.startswith("hub:"):
        return {"kind": "hub", "name": value.removeprefix("hub:")}
    return {"kind": "file", "path": value}


class Source(Section):
    """Fields that every kind of source has."""

    sample: int | None = Field(None, ge=1)
    """Use a uniform sample of this many usable rows; null uses all."""
    sample_seed: Seed = 0
    """Seed of the sample."""


class BuiltinSource(Source):
    """The generator that ships with the package."""

    kind: Literal["builtin"] = "builtin"
    rows: int = Field(2000, ge=1)
    """How many rows to make."""
    seed: Seed = 0
    """Seed of the generator."""
    skill: str | None = None
    """The one skill of query and test rows; the pool mixes all skills."""


class FileSource(Source):
    """A .jsonl, .json or .parquet file, or a folder of them."""

    kind: Literal["file"] = "file"
    path: str = Field(min_length=1)
    """Path of the file or folder."""


class HubSource(Source):
    """A data set of the Hugging Face hub (needs the `datasets` package)."""

    kind: Literal["hub"] = "hub"
    name: str
    """Data set id, `org/name`."""
    config: str | None = None
    """Configuration name, if the data set has several."""
    split: str = "train"
    """Split to read."""
    revision: str | None = None
    """Commit or tag; pin it to make a study repeatable."""


SOURCE_KINDS: dict[str, type[Source]] = {
    "builtin": BuiltinSource,
    "file": FileSource,
    "hub": HubSource,
}


def _kind(value: object) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind is None else str(kind)


AnySource = Annotated[
    Annotated[
        Annotated[BuiltinSource, Tag("builtin")]
        | Annotated[FileSource, Tag("file")]
        | Annotated[HubSource, Tag("hub")],
        Discriminator(_kind),
    ],
    BeforeValidator(_source),
]


class DataConfig(Section):
    """Where the rows come from and how they become tokens."""

    pool: AnySource
    """The N candidate examples."""
    query: AnySource
    """The M examples of the target task that steer the selection."""
    test: AnySource
    """Held-out rows of the target task: test loss and exact match are measured on them."""
    template: TemplateChoice = TemplateConfig()
    """`tulu` is the paper's template; `chat` is the tokenizer's own; a section has more choices."""
    max_length: int = Field(2048, ge=8)
    """Longest example in tokens; a longer one is cut at its end."""


class TaskConfig(Section):
    """One of several target tasks."""

    query: AnySource
    """The examples of the task that steer the selection."""
    test: AnySource
    """Held-out rows of the task."""
