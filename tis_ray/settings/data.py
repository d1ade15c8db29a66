"""Where rows come from, and how they become tokens."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from tis_ray.section import Section, Seed
from tis_ray.settings.template import TemplateChoice, TemplateConfig

_BY_FIELD = {"path": "file", "sources": "list"}
"""The kind of a section that has one of these fields and names no kind."""

Skill = Literal[
    "reverse_word",
    "sort_letters",
    "double_letters",
    "drop_vowels",
    "shift_letters",
    "spell_out",
    "upper_case",
    "end_letters",
    "plural",
    "acronym",
    "rotate_list",
    "add_numbers",
    "subtract_numbers",
    "largest_number",
    "next_number",
    "digit_names",
]
"""The skills of the generator."""

COLUMNS = (
    *("id", "source", "messages", "conversations", "chosen", "prompt", "completion", "response"),
    *("instruction", "input", "output", "context", "question", "answer", "query", "text", "system"),
    *("history", "tools", "prompts", "labels", "role", "content"),
)
"""Fields of a row, and of its turns, that `columns` can give another name."""


def _source(value: object) -> object:
    """Read the short forms of a source: as of one, or a list; a section may have a list of paths."""
    if isinstance(value, list):
        return {"kind": "list", "sources": value}
    if isinstance(value, dict) and isinstance(value.get("path"), list):
        whole = {name: value[name] for name in Source.model_fields if name in value}
        own = {name: field for name, field in value.items() if name not in whole}
        return {"kind": "list", "sources": [{**own, "path": p} for p in value["path"]], **whole}
    if isinstance(value, dict) and value.get("weight") is not None:
        raise ValueError("weight: belongs to a source in a list, beside others")
    return _one_source(value)


def _one_source(value: object) -> object:
    """Read the short forms of one source: a path, `hub:org/name`, a section with a `path`."""
    if isinstance(value, dict) and "kind" not in value:
        kinds = [kind for field, kind in _BY_FIELD.items() if field in value]
        return {"kind": kinds[0], **value} if len(kinds) == 1 else value
    if isinstance(value, dict | Source):
        return value
    if isinstance(value, list):
        raise ValueError("a list of sources cannot hold another; write its sources in their place")
    if isinstance(value, PurePath):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("give a path, `hub:org/name`, a list of them, or a section with a `kind`")
    if value.startswith("hub:"):
        return {"kind": "hub", "name": value.removeprefix("hub:")}
    return {"kind": "file", "path": value}


class Source(Section):
    """Fields that every kind of source has."""

    sample: int | None = Field(None, ge=1)
    """Use a uniform sample of this many usable rows; null uses all."""
    sample_seed: Seed = 0
    """Seed of the sample, and of what is held out."""
    holdout: float | None = Field(None, gt=0, lt=1)
    """Share of the queries that is held out as test rows, such as 0.3, where no test rows are given."""


class BuiltinSource(Source):
    """The generator that ships with the package."""

    kind: Literal["builtin"] = "builtin"
    rows: int = Field(2000, ge=1)
    """How many rows to make."""
    seed: Seed = 0
    """Seed of the generator."""
    skill: Skill | None = None
    """The one skill of query and test rows; the pool mixes all skills."""
    weight: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Share of the sample of the list that this source is in, relative to the weights of the others."""


class GivenSource(Source):
    """Fields of every source of the user's own rows."""

    source: str | None = Field(None, min_length=1)
    """Label of rows that have no `source` of their own; null takes the name of their file."""
    columns: dict[str, str] = {}
    """Where a field stands, by the field: `{messages: dialogue, role: speaker, id: meta.uid}`."""
    train_on: Literal["all", "last"] = "all"
    """Train every answer of a dialogue, or only its last."""
    weight: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Share of the sample of the list that this source is in, relative to the weights of the others."""

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: dict[str, str]) -> dict[str, str]:
        for name, column in columns.items():
            if name not in COLUMNS:
                raise ValueError(
                    f"{name!r} is not a field of a row; give one of {', '.join(COLUMNS)}"
                )
            if not column:
                raise ValueError(f"{name}: the name of the column is missing")
        return columns


class FileSource(GivenSource):
    """A file of rows (JSONL, JSON, CSV, Parquet, Arrow), a folder of them, or a pattern."""

    kind: Literal["file"] = "file"
    path: str = Field(min_length=1)
    """Path of the file or folder, or a pattern such as `data/*.parquet`."""
    split: str | None = Field(None, min_length=1)
    """The split to read, where a folder holds several."""


class HubSource(GivenSource):
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


def _kind(value: object) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind is None else str(kind)


OneSource = Annotated[
    Annotated[
        Annotated[BuiltinSource, Tag("builtin")]
        | Annotated[FileSource, Tag("file")]
        | Annotated[HubSource, Tag("hub")],
        Discriminator(_kind),
    ],
    BeforeValidator(_one_source),
]


class ListSource(Source):
    """Several sources, read one after the other; each may have a sample and a label of its own."""

    kind: Literal["list"] = "list"
    sources: list[OneSource] = Field(min_length=1)
    """The sources, in order."""

    @model_validator(mode="after")
    def _held_out_as_one(self) -> Self:
        if any(source.holdout is not None for source in self.sources):
            raise ValueError("holdout: belongs to the whole list, {sources: [...], holdout: 0.3}")
        return self

    @model_validator(mode="after")
    def _weighted(self) -> Self:
        weighted = [source for source in self.sources if source.weight is not None]
        if not weighted:
            return self
        if len(weighted) < len(self.sources) or self.sample is None:
            raise ValueError(
                "weight: shares out the sample of the list; give all of its sources one, and the list a "
                "sample: {sources: [{path: a.jsonl, weight: 2}, {path: b/, weight: 1}], sample: 3000}"
            )
        if any(source.sample is not None for source in self.sources):
            raise ValueError("weight: a source has a weight or a sample of its own, not both")
        if 0 in self._shares(self.sample):
            raise ValueError(f"weight: a sample of {self.sample} leaves a source without a row")
        return self

    def with_shares(self) -> list[OneSource]:
        """Return the sources; if they have weights, each with its share of the list's sample."""
        if self.sample is None or self.sources[0].weight is None:
            return self.sources
        shares = zip(self.sources, self._shares(self.sample), strict=True)
        seed = self.sample_seed
        return [one.model_copy(update={"sample": n, "sample_seed": seed}) for one, n in shares]

    def _shares(self, sample: int) -> list[int]:
        """Return how many rows of a sample each source has: its part of all weights, rounded."""
        weights = [source.weight or 0.0 for source in self.sources]
        ends = [round(sample * end / sum(weights)) for end in accumulate(weights)]
        return [end - begin for begin, end in pairwise([0, *ends])]


SOURCE_KINDS: dict[str, type[Source]] = {
    "builtin": BuiltinSource,
    "file": FileSource,
    "hub": HubSource,
    "list": ListSource,
}

AnySource = Annotated[
    Annotated[
        Annotated[BuiltinSource, Tag("builtin")]
        | Annotated[FileSource, Tag("file")]
        | Annotated[HubSource, Tag("hub")]
        | Annotated[ListSource, Tag("list")],
        Discriminator(_kind),
    ],
    BeforeValidator(_source),
]


class Targets(Section):
    """The rows of a target task: those that steer the selection, and those that results are measured on."""

    query: AnySource
    """The M examples of the target task that steer the selection."""
    test: AnySource | None = None
    """Held-out rows of the target task: test loss and exact match are measured on them. Selection needs
    none, and `holdout` of the queries takes them from there."""

    @model_validator(mode="after")
    def _held_out_once(self) -> Self:
        if self.test is not None and self.query.holdout is not None:
            raise ValueError(
                "query.holdout: holds out test rows, and test gives others; keep one of the two"
            )
        if self.test is not None and self.test.holdout is not None:
            raise ValueError("test.holdout: only of queries a part is held out; leave it out")
        return self

    def source(self, side: Literal["query", "test"]) -> AnySource | None:
        """Return where the rows of a side come from; None for test rows that there are none of."""
        if side == "test" and self.query.holdout is not None:
            return self.query
        return self.query if side == "query" else self.test


class TaskConfig(Targets):
    """One of several target tasks."""


class DataConfig(Targets):
    """Where the rows come from and how they become tokens."""

    pool: AnySource
    """The N candidate examples."""
    template: TemplateChoice = TemplateConfig()
    """`tulu` is the paper's template; `chat` is the tokenizer's own; a section has more choices."""
    max_length: int = Field(2048, ge=8)
    """Longest example in tokens; a longer one is cut at its end."""

    def side(self, name: Literal["pool", "query", "test"]) -> AnySource:
        """Return where the rows of a side come from. Raises KeyError for test rows that there are none of."""
        source = self.pool if name == "pool" else self.source(name)
        if source is None:
            raise KeyError(f"data.{name}")
        return source

    @property
    def sides(self) -> list[Literal["pool", "query", "test"]]:
        """The sides that there are."""
        return ["pool", "query"] if self.source("test") is None else ["pool", "query", "test"]

    @model_validator(mode="after")
    def _pool_whole(self) -> Self:
        if self.pool.holdout is not None:
            raise ValueError("pool.holdout: only of queries a part is held out; leave it out")
        return self
