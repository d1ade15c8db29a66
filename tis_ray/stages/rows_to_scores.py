"""From rows to scores, for one representation: which rows, read by which model, kept or streamed.

Here the choices of the config meet: a proxy model reads the rows with its own tokenizer, a cascade
lets a cheap representation decide which rows a dear one looks at, and a method's `scoring` decides
whether features are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tis_ray.analysis.recorded import CascadeRecall
from tis_ray.analysis.study_values import Method
from tis_ray.representations import Cascade, Representation
from tis_ray.stages.cascade import (
    cascade_recall,
    kept_rows,
    recall_sample,
)
from tis_ray.stages.context import Context
from tis_ray.stages.feature_recipe import Recipe, make_recipe, reading_model
from tis_ray.stages.featurize import featurize
from tis_ray.stages.scores import score_exact, score_features, score_rows, score_stream
from tis_ray.stages.tokens import prepare_side
from tis_ray.store import Artifact
from tis_ray.store.feature_views import FeatureSet
from tis_ray.store.sides import Side, SideName


@dataclass(frozen=True)
class Represented:
    """What came of one representation of the study's rows.

    features: None where it has none; without a "pool" side where they are not kept.
    scores: None where they were not asked for, and for a ready ordering.
    cascade: what a cascade kept and lost; None without one.
    """

    method: Representation
    features: FeatureSet | None
    scores: Artifact | None
    cascade: CascadeRecall | None = None

    @property
    def name(self) -> str:
        """The representation's name."""
        return self.method.name

    @property
    def pool_features(self) -> FeatureSet | None:
        """The features, if those of the pool are kept."""
        kept = self.features is not None and "pool" in self.features.shards
        return self.features if kept else None


class Representer:
    """Makes representations of one study's rows; what they share is made once, by its fingerprint."""

    def __init__(
        self,
        context: Context,
        rows: Mapping[SideName, Artifact],
        sides: dict[SideName, Side],
        dropped: Mapping[str, tuple[str, str]],
    ) -> None:
        self.context, self.rows, self.sides, self.dropped = context, rows, sides, dropped
        self.config, self.log = context.config, context.log

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
            usable = self._usable_rows(sides)
            if method.gives == "scores":
                return Represented(method, None, score_rows(method, sides, self.context))
            if cascade is None:
                recipe = make_recipe(method, self.context, sides["pool"])
                return self._scored(recipe, sides, usable, scored)
            kept = self._kept(cascade, usable)
            recipe = make_recipe(method, self.context, sides["pool"])
            represented = self._scored(recipe, sides, kept, scored)
        if not scored:
            return represented
        # The sample shows what the cascade loses; the method does without it.
        candidates = sides["pool"].usable_rows.rows_N if usable is None else usable
        facts = self._cascade_facts(cascade, recipe, kept, candidates, sides)
        return replace(represented, cascade=facts)

    def _kept(self, cascade: Cascade, usable: np.ndarray | None) -> np.ndarray:
        """Return the usable pool rows that the cheap representation keeps."""
        cheap = self.represent(cascade.by).scores
        assert cheap is not None
        kept = kept_rows(cascade, cheap, self.context)
        return kept if usable is None else kept[np.isin(kept, usable)]

    def _cascade_facts(
        self,
        cascade: Cascade,
        recipe: Recipe,
        kept: np.ndarray,
        candidates: np.ndarray,
        sides: dict[str, Side],
    ) -> CascadeRecall:
        sample = recall_sample(cascade, candidates)
        facts = CascadeRecall(
            by=cascade.by, kept=len(kept), pool=len(candidates), sample=len(sample)
        )
        if not len(sample):
            return facts
        scores = self._scored(recipe, sides, sample, True, " sample").scores
        assert scores is not None
        label, context = recipe.method.label, self.context
        facts["recall"] = cascade_recall(cascade, label, kept, len(candidates), scores, context)
        return facts

    def _scored(
        self,
        recipe: Recipe,
        sides: dict[str, Side],
        wanted: np.ndarray | None,
        scored: bool,
        label: str = "",
    ) -> Represented:
        """Represent these pool rows (None: all of them), in the way that the method's `scoring` says."""
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
        scores = score_features(features, features, context) if scored else None
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
        return self.sides["pool"].usable_rows.rows_N
