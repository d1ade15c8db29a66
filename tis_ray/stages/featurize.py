"""The features stage: Ray Data streams shards of pool and query set through actors that hold the model.

Features live in a store (`tis_ray.store.feature_store`), by the content of their rows. What is made here
is the view of one study on it, a `features-*` artifact: `<side>.parquet` says in which files of the
store the features of the side's rows lie, and what had no feature is in `quarantine.parquet`. Only rows that the store lacks are computed, one shard of tokens at a
time; a shard is the unit of work and of resume.
"""

from __future__ import annotations

import logging
import time

import numpy as np
import pyarrow as pa

from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.data import format_tulu
from tis_ray.distributed.shards import ShardFacts, map_shards
from tis_ray.models.loading import load_tokenizer
from tis_ray.stages.context import Context
from tis_ray.stages.feature_recipe import Recipe
from tis_ray.stages.tokens import prompt_and_label
from tis_ray.stages.view import View
from tis_ray.store import Artifact, TableRow, fingerprint, write_parquet
from tis_ray.store.feature_store import FeatureShard, FeatureStore
from tis_ray.store.feature_views import FeatureSet
from tis_ray.store.sides import QUARANTINE, Side, row_dicts

VERSION = 2
"""Of the view; what a feature is, is the space's to say. 2: one file a side."""


def featurize(
    recipe: Recipe,
    sides: dict[str, Side],
    context: Context,
    wanted: np.ndarray | None = None,
    label: str | None = None,
) -> FeatureSet:
    """Compute what the store lacks of these sides' features, and return the view on them.

    sides: "query", and "pool" if its features are to be kept. wanted: pool rows (their numbers,
    ascending) to look at; None means all.
    """
    root = context.root
    store = FeatureStore(root, recipe.space)
    label = label or f"features {recipe.name}"
    views = {role: View(store, role, side, wanted) for role, side in sides.items()}
    inputs = {
        "store": store.fingerprint,
        **{role: side.tokens.fingerprint for role, side in sides.items()},
        "wanted": None if wanted is None else fingerprint(wanted.tolist()),
    }
    artifact = Artifact(root, f"features-{recipe.name}", inputs, VERSION)
    shards = {role: side.shards for role, side in sides.items()}
    features = FeatureSet(
        recipe.name, artifact, store, recipe.weights_C, recipe.method.halves, shards
    )
    reused, note = _intact(artifact, store), ""
    if not reused:
        artifact.reopen()
        clock = artifact.clock()
        missing = {
            _work_number(role, shard): positions
            for role in ("query", "pool")
            if role in views
            for shard, positions in views[role].missing()
        }
        total = sum(view.count for view in views.values())
        lacking = sum(view.lacking for view in views.values())
        if lacking < total:
            note = f"{total - lacking} of {total} rows were already in the store"
        arguments = {"recipe": recipe, "sides": sides, "store": store, "missing": missing}
        with clock.marked():
            facts = map_shards(
                Featurise,
                arguments,
                list(missing),
                context,
                label,
                gpu=True,
                rows=lacking if recipe.method.reads == "tokens" else 0,
                passes=len(recipe.weights_C),
            )
        if facts["cut"]:
            cut = f"{facts['cut']} texts were longer than the encoder reads and were cut"
            note = f"{note}; {cut}" if note else cut
        lost: list[QuarantinedRow] = []
        files = {}
        for role, view in views.items():
            files[role] = view.write(artifact)
            lost += view.lost
        write_parquet(artifact / "quarantine.parquet", pa.Table.from_pylist(lost, QUARANTINE))
        artifact.commit(
            rows=total - len(lost),
            quarantined=len(lost),
            seconds=clock.seconds,
            device=context.cluster.device,
            peak_mb=facts["peak_mb"],
            details={
                "store": store.path.name,
                "weights": recipe.weights_C.tolist(),
                "halves": recipe.method.halves,
                "shards": shards,
                "computed": lacking,
                "cut": facts["cut"],
                "files": files,
            },
        )
    context.log.made("features", label, artifact, reused, note)
    return features


def _intact(artifact: Artifact, store: FeatureStore) -> bool:
    """Whether the view is complete and every file it names is still in the store."""
    if not artifact.complete:
        return False
    files = artifact.manifest().details["files"]
    return all(set(names) <= set(store.files(role).values()) for role, names in files.items())


def _work_number(role: str, shard: int) -> int:
    """Number the shards of both sides: query shards come first, below zero."""
    return -1 - shard if role == "query" else shard


class Featurise:
    """Holds a representation; turns the missing rows of one shard into one file of the store."""

    def __init__(
        self,
        recipe: Recipe,
        sides: dict[str, Side],
        store: FeatureStore,
        missing: dict[int, np.ndarray | None],
    ) -> None:
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self.store, self.missing = store, missing
        self.reader = RowReader(recipe, sides)
        self.dtype = recipe.dtype
        self.representation = recipe.build()

    def __call__(self, number: int) -> ShardFacts:
        """Featurise one shard; query shards are numbered -1, -2, ..."""
        start = time.monotonic()
        role, shard = ("query", -1 - number) if number < 0 else ("pool", number)
        rows = self.reader.rows(role, shard, self.missing[number])
        features = self.representation.features(rows, role)
        self.store.write(
            role,
            FeatureShard(
                keys=[row["content"] for row in rows],
                values_ECK=features.values_ECK,
                unusable=features.unusable,
                columns={
                    **features.columns,
                    "response_tokens": np.array([r["response_tokens"] for r in rows], np.int32),
                },
            ),
            "float32" if role == "query" else self.dtype,
        )
        cut = int(features.columns["truncated"].sum()) if "truncated" in features.columns else 0
        return {"rows": len(rows), "seconds": time.monotonic() - start, "cut": cut}


class RowReader:
    """Reads what a representation wants to see of a shard's rows: tokens, and text if it reads text."""

    def __init__(self, recipe: Recipe, sides: dict[str, Side]) -> None:
        self.sides, self.template, self.needs_text = (
            sides,
            recipe.template,
            recipe.method.reads == "text",
        )
        self.tokenizer = load_tokenizer(recipe.of.model) if self.needs_text else None

    def rows(self, role: str, shard: int, positions: np.ndarray | None = None) -> list[TableRow]:
        """Return the token rows at these positions of a shard (None: all), joined with their text."""
        table = self.sides[role].token_table(shard)
        rows: list[TableRow] = (
            table if positions is None else table.take(pa.array(positions))
        ).to_pylist()
        if self.needs_text:
            path = self.sides[role].rows / f"rows-{shard:05d}.parquet"
            texts = {row["row"]: row for row in row_dicts(path)}
            for row in rows:
                row["text"] = self._text(texts[row["row"]], role)
        return rows

    def _text(self, row: TableRow, role: str) -> str:
        assert self.tokenizer is not None
        if role == "pool" and "prompt" not in row:
            return format_tulu(row["messages"], self.tokenizer.eos_token)
        prompt, label = prompt_and_label(row, self.tokenizer, self.template)
        return f"{prompt} {label}"
