"""What a study looks at before it computes: its models, and some rows of each side as they read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import NamedTuple, cast

from tis_ray.config import Config
from tis_ray.data import Row
from tis_ray.data.encoding_check import encoding_problems
from tis_ray.errors import InputError
from tis_ray.log import RunLog
from tis_ray.models.fitness import model_problems
from tis_ray.models.loading import load_tokenizer
from tis_ray.settings import ModelConfig
from tis_ray.stages.feature_recipe import reading_model
from tis_ray.stages.given_checkpoints import given_problems
from tis_ray.storage import listed
from tis_ray.store import Artifact, read_tables
from tis_ray.store.sides import SideName, row_dicts

LOOKED_AT = 24
"""Rows of each side."""


def check_apart(rows: Mapping[SideName, Artifact], log: RunLog) -> None:
    """Say how many test rows are queries too. Raises InputError if all of them are."""
    if "test" not in rows:
        return
    said = {
        side: set(
            read_tables(rows[side].path, "rows-*.parquet", ["content"])["content"].to_pylist()
        )
        for side in ("query", "test")
    }
    found = shared_rows(**said)
    if found is None:
        return
    if found.all:
        raise InputError(found.line)
    log.say((found.line, "yellow"))


class Shared(NamedTuple):
    """Test rows that are queries too: what to say of them, and whether all are."""

    line: str
    all: bool


def shared_rows(query: Set[str], test: Set[str]) -> Shared | None:
    """Return what to say of test rows that are queries too, by their contents; None where none is."""
    both = test & query
    if not both:
        return None
    cure = "hold out some of the queries instead (`data.query: {path: ..., holdout: 0.3}`)"
    if both == test:
        line = (
            f"data.test: all of its {len(both)} rows are queries (data.query), so models would be measured "
            f"on what steered the selection, and pool rows near the queries dropped; {cure}, or leave "
            "data.test out, which a selection does not need"
        )
        return Shared(line, True)
    line = (
        f"data.test: {len(both)} of its {len(test)} rows are queries (data.query) too, so "
        f"results on them say little, and pool rows near these queries are dropped; {cure}"
    )
    return Shared(line, False)


def check_models(config: Config, trained: bool = True) -> None:
    """Raise InputError, with a line for each problem, for a model that cannot do what a study asks.

    trained: whether models are fine-tuned too, and not only read what is selected.
    """
    longest, finetune = config.data.max_length, config.finetune
    problems = {}
    if trained:
        lora = finetune.lora if finetune.method == "lora" else None
        problems["finetune"] = model_problems(config.model, longest, lora)
    for method in config.representations():
        if method.reads == "tokens":
            warmup = method.warmup(config.settings_of(method))
            model = reading_model(method, config)
            lora = warmup.lora if warmup and warmup.given is None else None
            problems[method.name] = [
                *model_problems(model, longest, lora, per_example=True),
                *(given_problems(warmup, model) if warmup else ()),
            ]
    lines = [
        f"{section}.{line}" if line.startswith("lora.") else line
        for section, found in problems.items()
        for line in found
    ]
    if lines:
        raise InputError("\n".join(dict.fromkeys(lines)))


def check_encoding(
    config: Config, rows: Mapping[SideName, Artifact], models: Sequence[ModelConfig], log: RunLog
) -> None:
    """Say what is wrong with how the rows will be encoded, a line each.

    Raises InputError where a model would learn other tokens than the rows say.
    """
    looked_at = [row for artifact in rows.values() for row in islice(_rows(artifact), LOOKED_AT)]
    for model in models:
        for problem in encoding_problems(looked_at, load_tokenizer(model), config.data.template):
            if problem.wrong_labels:
                raise InputError(f"data.{problem.text} (model {model.name})")
            log.say((f"data.{problem.text}", "yellow"))


def _rows(artifact: Artifact) -> Iterator[Row]:
    for path in listed(artifact.path, "rows-*.parquet"):
        yield from (cast(Row, row) for row in row_dicts(path))
