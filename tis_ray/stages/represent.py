"""From rows to scores, for one representation: which rows, read by which model, kept or streamed.

Here the choices of the config meet: a proxy model reads the rows with its own tokenizer, a cascade
lets a cheap representation decide which rows LESS looks at, and `less.scoring` decides whether
features are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tis_ray.analysis.intervals import wilson_interval
from tis_ray.config import CascadeConfig, Config
from tis_ray.errors import InputError
from tis_ray.stages.cluster import Cluster
from tis_ray.stages.featurize import FeatureSet, featurize
from tis_ray.stages.log import RunLog
from tis_ray.stages.order import score_shards
from tis_ray.stages.recipe import Recipe, make_recipe, representation_model
from tis_ray.stages.score import score_exact, score_features, score_stream, score_texts
from tis_ray.stages.select import select_distributed
from tis_ray.stages.tokens import Side, SideName, prepare_side
from tis_ray.store import Artifact, fingerprint, write_json, write_npy


@dataclass(frozen=True)
class Represented:
    """One representation of the study's rows.

    features: None for BM25, which has none; without a "pool" side where they are not kept.
    cascade: what a cascade kept and lost; None without one.
    """

    name: str
    features: FeatureSet | None
    scores: Artifact | None
    cascade: dict[str, Any] | None = None


class Representer:
    """Makes representations of one study's rows; what they share is made once, by its fingerprint."""

    def __init__(
        self,
        config: Config,
        rows: dict[str, Artifact],
        sides: dict[str, Side],
        cluster: Cluster,
        log: RunLog,
        dropped: Mapping[str, tuple[str, str]],
    ) -> None:
        self.config, self.rows, self.sides, self.dropped = config, rows, sides, dropped
        self.cluster, self.log, self.root = cluster, log, config.artifact_root

    def represent(self, name: str, scored: bool = True) -> Represented:
        """Return a representation's scores, and its features where they are kept."""
        cascade = self.config.less.cascade if name == "less" else None
        with self.log.needed_by(name):
            sides = self._sides(name)
            wanted = self._usable_rows(sides)
            if name == "bm25":
                scores = score_texts(self.config.bm25, sides, self.root, self.cluster, self.log)
                return Represented(name, None, scores)
            if cascade is None:
                recipe = make_recipe(name, self.config, sides["pool"], self.cluster, self.log)
                return self._scored(recipe, sides, wanted, scored)
            kept, cheap = self._keep(cascade)
            if wanted is not None:
                kept = kept[np.isin(kept, wanted)]
            recipe = make_recipe(name, self.config, sides["pool"], self.cluster, self.log)
            found = self._scored(recipe, sides, kept, scored)
        if not scored:
            return found
        # The sample tells what the cascade lost; the method does without it.
        facts = self._recall(cascade, cheap, kept, recipe, sides, wanted)
        return Represented(name, found.features, found.scores, facts)

    def _scored(
        self,
        recipe: Recipe,
        sides: dict[str, Side],
        wanted: np.ndarray | None,
        scored: bool,
        label: str = "",
    ) -> Represented:
        root, cluster, log, config = self.root, self.cluster, self.log, self.config
        mode = config.less.scoring if recipe.name == "less" else "store"
        if mode == "exact":
            scores = score_exact(recipe, sides, root, cluster, log, wanted) if scored else None
            return Represented(recipe.name, None, scores)
        name = f"features {recipe.name}{label}"
        if mode == "stream":
            query_side = {"query": sides["query"]}
            features = featurize(recipe, query_side, root, cluster, log, label=f"{name} queries")
            if not scored:
                return Represented(recipe.name, features, None)
            scores = score_stream(recipe, features, sides, root, cluster, log, wanted)
            return Represented(recipe.name, features, scores)
        features = featurize(recipe, sides, root, cluster, log, wanted, label=name)
        if not scored:
            return Represented(recipe.name, features, None)
        threads = config.batch.threads
        scores = score_features(features, features, root, cluster, log, threads)
        return Represented(recipe.name, features, scores)

    def _sides(self, name: str) -> dict[str, Side]:
        """Return pool and query set as the representation's model reads them."""
        model = representation_model(name, self.config)
        if model is None or model == self.config.model:
            return {role: self.sides[role] for role in ("pool", "query")}
        roles: tuple[SideName, ...] = ("pool", "query")
        # A proxy that two representations share is read once; the second finds the artifacts.
        return {
            role: prepare_side(
                self.config,
                role,
                self.rows[role],
                self.cluster,
                self.log,
                model,
                self.dropped if role == "pool" else None,
            )
            for role in roles
        }

    def _usable_rows(self, sides: dict[str, Side]) -> np.ndarray | None:
        """Return the pool rows that the fine-tuned model can use as well, if that is another one."""
        if sides["pool"] is self.sides["pool"]:
            return None
        return _row_numbers(self.sides["pool"])

    def _keep(self, cascade: CascadeConfig) -> tuple[np.ndarray, Artifact]:
        """Return the pool rows that the cheap representation keeps, ascending, and its scores."""
        cheap = self.represent(cascade.by).scores
        assert cheap is not None
        columns_N = np.load(cheap / "columns.npy")
        count = max(1, round(cascade.keep * len(columns_N)))
        if self.config.budget_unit == "examples" and count < max(self.config.budget):
            raise InputError(
                f"less.cascade.keep: {cascade.keep:g} of {len(columns_N)} rows are {count}, fewer "
                f"than the budget of {max(self.config.budget)}; raise it"
            )
        artifact = Artifact(self.root, "kept", {"scores": cheap.fingerprint, "count": count})
        reused = artifact.complete
        if not reused:
            clock = artifact.clock()
            shards = score_shards(cheap)
            found = select_distributed(shards, "round_robin", count, self.cluster.actors)
            write_npy(artifact / "kept.npy", np.sort(columns_N[found.indices]))
            artifact.commit(rows=count, seconds=clock.seconds)
        self.log.made(f"kept by {cascade.by}", artifact, reused)
        return np.load(artifact / "kept.npy"), cheap

    def _recall(
        self,
        cascade: CascadeConfig,
        cheap: Artifact,
        kept: np.ndarray,
        recipe: Recipe,
        sides: dict[str, Side],
        usable: np.ndarray | None,
    ) -> dict[str, Any]:
        """Give a uniform sample of the whole pool to LESS too, and see how much of its top was kept."""
        everything = _row_numbers(sides["pool"]) if usable is None else usable
        facts: dict[str, Any] = {
            "by": cascade.by,
            "kept": len(kept),
            "pool": len(everything),
            "sample": min(cascade.sample, len(everything)),
        }
        if not facts["sample"]:
            return facts
        draw = np.random.default_rng([self.config.less.seed, len(everything)])
        sample = np.sort(draw.permutation(everything)[: facts["sample"]])
        scores = self._scored(recipe, sides, sample, True, " sample").scores
        assert scores is not None
        columns_N = np.load(scores / "columns.npy")
        share = max(self.config.budget) / len(everything)
        budgets = {s: max(1, round(s * len(columns_N))) for s in (share, 0.05, 0.10)}
        artifact = Artifact(
            self.root,
            "recall",
            {
                "scores": scores.fingerprint,
                "kept": fingerprint(kept.tolist()),
                "budgets": list(budgets.values()),
            },
        )
        if not artifact.complete:
            shards, most = score_shards(scores), max(budgets.values())
            order = select_distributed(shards, "round_robin", most, self.cluster.actors)
            inside = np.isin(columns_N[order.indices], kept)
            found = []
            for name, count in budgets.items():
                hits = int(inside[:count].sum())
                low, high = wilson_interval(hits, count)
                found.append({"share": name, "rows": count, "kept": hits, "low": low, "high": high})
            write_json(artifact / "recall.json", found)
            artifact.commit(rows=len(columns_N))
        facts["recall"] = json.loads((artifact / "recall.json").read_text())
        for entry in facts["recall"][:1]:
            self.log.say(
                f"  cascade: of the {entry['rows']} rows that LESS would take from a sample of "
                f"{len(columns_N)}, {cascade.by} kept {entry['kept']} "
                f"(95% interval {entry['low']:.0%} to {entry['high']:.0%})"
            )
        return facts


def _row_numbers(side: Side) -> np.ndarray:
    parts = [side.token_facts(shard)["row"].to_numpy() for shard in range(side.shards)]
    return np.concatenate(parts)
