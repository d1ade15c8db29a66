"""What a study looks at before it computes: its models, and some rows of each side as they read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import cast

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
from tis_ray.study.shared_rows import shared_rows

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
