"""From rows to scores, for one representation: which rows, read by which model, kept or streamed.

Here the choices of the config meet: a proxy model reads the rows with its own tokenizer, a cascade
lets a cheap representation decide which rows a dear one looks at, and a method's `scoring` decides
whether features are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tis_ray.analysis.cells import Method
from tis_ray.analysis.intervals import wilson_interval
from tis_ray.distributed.held_scores import score_shards, select_distributed
from tis_ray.errors import InputError
from tis_ray.representations import Cascade, Representation
from tis_ray.selectors import BASELINE
from tis_ray.stages.context import Context
from tis_ray.stages.featurize import featurize
from tis_ray.stages.recipe import Recipe, make_recipe, reading_model
from tis_ray.stages.represented import Represented
from tis_ray.stages.scores import score_exact, score_features, score_rows, score_stream
from tis_ray.stages.tokens import prepare_side
from tis_ray.store import Artifact, fingerprint, read_json, read_npy, write_json, write_npy
from tis_ray.store.sides import Side, SideName

KEPT_VERSION = 1
"""Of `kept-*`."""
RECALL_VERSION = 1
"""Of `recall-*`."""


class Representer:
    """Makes representations of one study's rows; what they share is made once, by its fingerprint."""

    def __init__(
        self,
        context: Context,
        rows: dict[str, Artifact],
        sides: dict[str, Side],
        dropped: Mapping[str, tuple[str, str]],
    ) -> None:
        self.context, self.rows, self.sides, self.dropped = context, rows, sides, dropped
        self.config, self.log, self.root = context.config, context.log, context.root

    def represent(self, name: str, scored: bool = True) -> Represented:
        """Return a representation's scores, and its features where they are kept."""
        method = self.config.method(name)
        settings = self.config.settings_of(method)
        method.check(settings, {side: self.rows[side].manifest().rows for side in self.sides})
        if method.gives == "ordering":
            return Represented(method, None, None)
        cascade = method.cascade(settings)
        with self.log.needed_by(Method(method.name)):
            sides = self._sides(method)
            wanted = self._usable_rows(sides)
            if method.gives == "scores":
                return Represented(method, None, score_rows(method, sides, self.context))
            if cascade is None:
                recipe = make_recipe(method, self.context, sides["pool"])
                return self._scored(recipe, sides, wanted, scored)
            kept, cheap = self._keep(cascade)
            if wanted is not None:
                kept = kept[np.isin(kept, wanted)]
            recipe = make_recipe(method, self.context, sides["pool"])
            found = self._scored(recipe, sides, kept, scored)
        if not scored:
            return found
        # The sample tells what the cascade lost; the method does without it.
        facts = self._recall(cascade, cheap, kept, recipe, sides, wanted)
        return Represented(method, found.features, found.scores, facts)

    def _scored(
        self,
        recipe: Recipe,
        sides: dict[str, Side],
        wanted: np.ndarray | None,
        scored: bool,
        label: str = "",
    ) -> Represented:
        method, context = recipe.method, self.context
        mode = method.scoring(recipe.of.settings)
        if mode == "exact":
            scores = score_exact(recipe, sides, context, wanted) if scored else None
            return Represented(method, None, scores)
        name = f"features {recipe.name}{label}"
        if mode == "stream":
            query_side = {"query": sides["query"]}
            features = featurize(recipe, query_side, context, label=f"{name} queries")
            if not scored:
                return Represented(method, features, None)
            scores = score_stream(recipe, features, sides, context, wanted)
            return Represented(method, features, scores)
        features = featurize(recipe, sides, context, wanted, label=name)
        if not scored:
            return Represented(method, features, None)
        scores = score_features(features, features, context)
        return Represented(method, features, scores)

    def _sides(self, method: Representation) -> dict[str, Side]:
        """Return pool and query set as the representation's model reads them."""
        model = reading_model(method, self.config)
        if model == self.config.model:
            return {role: self.sides[role] for role in ("pool", "query")}
        roles: tuple[SideName, ...] = ("pool", "query")
        # A proxy that two representations share is read once; the second finds the artifacts.
        return {
            role: prepare_side(
                self.context,
                role,
                self.rows[role],
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

    def _keep(self, cascade: Cascade) -> tuple[np.ndarray, Artifact]:
        """Return the pool rows that the cheap representation keeps, ascending, and its scores."""
        cheap = self.represent(cascade.by).scores
        assert cheap is not None
        columns_N = read_npy(cheap / "columns.npy")
        count = max(1, round(cascade.keep * len(columns_N)))
        if self.config.budget_unit == "examples" and count < max(self.config.budget):
            raise InputError(
                f"{cascade.field}.keep: {cascade.keep:g} of {len(columns_N)} rows are {count}, fewer "
                f"than the budget of {max(self.config.budget)}; raise it"
            )
        inputs = {"scores": cheap.fingerprint, "count": count}
        artifact = Artifact(self.root, "kept", inputs, KEPT_VERSION)
        reused = artifact.complete
        if not reused:
            clock = artifact.clock()
            shards = score_shards(cheap)
            found = select_distributed(shards, BASELINE, count, self.context.cluster.actors)
            write_npy(artifact / "kept.npy", np.sort(columns_N[found.indices]))
            artifact.commit(rows=count, seconds=clock.seconds)
        self.log.made("kept", f"kept by {cascade.by}", artifact, reused)
        return read_npy(artifact / "kept.npy"), cheap

    def _recall(
        self,
        cascade: Cascade,
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
        draw = np.random.default_rng([cascade.seed, len(everything)])
        sample = np.sort(draw.permutation(everything)[: facts["sample"]])
        scores = self._scored(recipe, sides, sample, True, " sample").scores
        assert scores is not None
        columns_N = read_npy(scores / "columns.npy")
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
            RECALL_VERSION,
        )
        if not artifact.complete:
            shards, most = score_shards(scores), max(budgets.values())
            order = select_distributed(shards, BASELINE, most, self.context.cluster.actors)
            inside = np.isin(columns_N[order.indices], kept)
            found = []
            for name, count in budgets.items():
                hits = int(inside[:count].sum())
                low, high = wilson_interval(hits, count)
                found.append({"share": name, "rows": count, "kept": hits, "low": low, "high": high})
            write_json(artifact / "recall.json", found)
            artifact.commit(rows=len(columns_N))
        facts["recall"] = read_json(artifact / "recall.json")
        for entry in facts["recall"][:1]:
            self.log.say(
                f"  cascade: of the {entry['rows']} rows that {recipe.method.label} would take from a sample of "
                f"{len(columns_N)}, {cascade.by} kept {entry['kept']} "
                f"(95% interval {entry['low']:.0%} to {entry['high']:.0%})"
            )
        return facts


def _row_numbers(side: Side) -> np.ndarray:
    parts = [side.token_facts(shard)["row"].to_numpy() for shard in range(side.shards)]
    return np.concatenate(parts)
