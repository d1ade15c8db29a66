"""The distances stage: how far each cell's subset is from the queries, and how far random's is.

One artifact a representation, `distances-*`: a file for each distinct subset, then `distances.json`
with all of them. Costs are 1 - score, so scores have to be cosines; BM25's are not. Rows without a
score (a cascade looks at some rows alone) are left out, and `candidates` says how many were there.
The pool stands beside the subsets, thinned evenly to POOL_COLUMNS columns. What takes features is
None where they are not kept, and looks at FEATURE_ROWS rows of a side at most.
"""

from __future__ import annotations

import time
from statistics import mean
from typing import TypedDict

import numpy as np

from tis_ray.analysis.bounds import bound_terms, chord_cost, effective_dimension
from tis_ray.analysis.distances import (
    EXACT_LIMIT,
    Wasserstein,
    cosine_cost,
    mmd,
    subset_distances,
    wasserstein,
)
from tis_ray.analysis.recorded import (
    RecordedDimension,
    RecordedMmd,
    RepresentationDistances,
    SubsetDistances,
)
from tis_ray.analysis.study_values import RANDOM
from tis_ray.distributed.shards import ShardFacts, map_shards, pending
from tis_ray.stages.cells import CellPlan
from tis_ray.stages.context import Context
from tis_ray.stages.rows_to_scores import Represented
from tis_ray.storage import Place
from tis_ray.store import Artifact, fingerprint, read_json, write_json
from tis_ray.store.feature_views import FeatureSet, SideFeatures
from tis_ray.store.score_matrix import ScoreMatrix
from tis_ray.store.sides import Side

VERSION = 1
POOL_COLUMNS = 20_000
"""Columns that stand for the pool."""
FEATURE_ROWS = 500
"""Rows of each side that MMD, its bandwidth and the dimension look at: the work is their square."""

_FEATURE_SHARDS = 64  # that a sample of the pool's features is read from
_POOL = 0  # the item that is the pool; subsets are numbered from 1


class _Scale(TypedDict):
    """The pool's MMD, whose bandwidth all subsets are compared with, and its dimension."""

    mmd: RecordedMmd
    dimension: RecordedDimension | None


class _Content(TypedDict):
    """What `distances.json` holds; `scale` is None without features."""

    columns: int
    scale: _Scale | None
    pool: SubsetDistances
    subsets: dict[str, SubsetDistances]
    """By the digest of their places."""


def measure_subsets(
    represented: list[Represented],
    plans: list[CellPlan],
    pool: Side,
    context: Context,
) -> list[RepresentationDistances]:
    """Return the distances of each representation's subsets and of random's, as plain data."""
    rows_N = pool.usable_rows.rows_N
    distances: list[RepresentationDistances] = []
    for scored in represented:
        if scored.scores is None:
            distances.append({"representation": scored.name, "reason": "it has no scores"})
        elif not scored.method.cosines:
            distances.append(
                {"representation": scored.name, "reason": "its scores are not cosines"}
            )
        else:
            own = [plan for plan in plans if plan.representation in (scored.name, RANDOM)]
            distances.append(_measure(scored, scored.scores, own, rows_N, context))
    return distances


def _measure(
    represented: Represented,
    scores: Artifact,
    plans: list[CellPlan],
    rows_N: np.ndarray,
    context: Context,
) -> RepresentationDistances:
    matrix = ScoreMatrix(scores.path)
    # Distances ask who is in a subset, not in which order.
    places = [np.sort(matrix.places(rows_N[plan.positions])) for plan in plans]
    keys = [fingerprint(part.tolist()) for part in places]
    distinct = {key: part for key, part in zip(keys, places, strict=True) if len(part)}
    features = represented.pool_features
    inputs = {
        "scores": scores.fingerprint,
        "features": features.artifact.fingerprint if features else None,
        "subsets": list(distinct),
        "limits": [EXACT_LIMIT, POOL_COLUMNS, FEATURE_ROWS, _FEATURE_SHARDS],
    }
    artifact = Artifact(context.root, f"distances-{represented.name}", inputs, VERSION)
    label, reused = f"distances {represented.name}", artifact.complete
    if not reused:
        clock = artifact.clock()
        items = [_thinned(np.arange(len(matrix.columns_N)), POOL_COLUMNS), *distinct.values()]
        scale = _scale(artifact, features) if features else None
        arguments = {
            "scores": scores.path,
            "items": items,
            "features": features,
            "pool_mmd": scale["mmd"] if scale else None,
            "out": artifact.path,
        }
        todo = pending(artifact.path, "item-{:05d}.json", len(items))
        light = len(matrix.queries_M) * sum(len(items[number]) for number in todo) <= EXACT_LIMIT
        with clock.marked():
            facts = map_shards(MeasureSubset, arguments, todo, context, label, light=light)
        parts = [read_json(artifact / f"item-{number:05d}.json") for number in range(len(items))]
        subsets = dict(zip(distinct, parts[1:], strict=True))
        write_json(
            artifact / "distances.json",
            _Content(
                columns=len(matrix.columns_N), scale=scale, pool=parts[_POOL], subsets=subsets
            ),
        )
        artifact.commit(rows=len(distinct), seconds=clock.seconds, peak_mb=facts["peak_mb"])
    content: _Content = read_json(artifact / "distances.json")
    cells = [
        _of_cell(plan, key, content)
        for plan, key in zip(plans, keys, strict=True)
        if key in content["subsets"]
    ]
    context.log.made("distances", label, artifact, reused, _note(cells))
    return {
        "representation": represented.name,
        "columns": content["columns"],
        "pool": content["pool"],
        "dimension": content["scale"] and content["scale"]["dimension"],
        "subsets": cells,
    }


class MeasureSubset:
    """Holds the queries; measures one subset (or the thinned pool) after another."""

    def __init__(
        self,
        scores: Place,
        items: list[np.ndarray],
        features: FeatureSet | None,
        pool_mmd: RecordedMmd | None,
        out: Place,
    ) -> None:
        self.matrix, self.items = ScoreMatrix(scores), items
        self.pool_mmd, self.out = pool_mmd, out
        self.pool = SideFeatures(features, "pool") if features else None
        self.query_mD = _rows(features, "query", FEATURE_ROWS) if features else None

    def __call__(self, number: int) -> ShardFacts:
        """Write the distances of one subset."""
        start = time.monotonic()
        places = self.items[number]
        # Coarse storage can move a cosine a little past 1.
        scores_MB = np.clip(self.matrix.read(places), -1, 1)
        distances = subset_distances(cosine_cost(scores_MB)).to_dict()
        if number == _POOL:
            distances["mmd"] = self.pool_mmd
        elif self.pool is not None and self.query_mD is not None and self.pool_mmd is not None:
            subset_bD = self.pool.rows(_thinned(places, FEATURE_ROWS))
            distances["mmd"] = vars(mmd(self.query_mD, subset_bD, self.pool_mmd["bandwidth"]))
        distances["chord"] = vars(wasserstein(chord_cost(scores_MB)))
        write_json(self.out / f"item-{number:05d}.json", distances)
        return {"rows": len(places), "seconds": time.monotonic() - start}


def _scale(artifact: Artifact, features: FeatureSet) -> _Scale:
    """Return the scale of a representation's distances, measured once and kept in `scale.json`."""
    path = artifact / "scale.json"
    if not path.exists():
        pool_ED = _rows(features, "pool", FEATURE_ROWS)
        discrepancy = vars(mmd(_rows(features, "query", FEATURE_ROWS), pool_ED))
        try:
            dimension = vars(effective_dimension(pool_ED))
        except ValueError:  # fewer distinct rows than neighbours
            dimension = None
        write_json(path, {"mmd": discrepancy, "dimension": dimension})
    scale: _Scale = read_json(path)
    return scale


def _rows(features: FeatureSet, side: str, most: int) -> np.ndarray:
    """Return an even sample of a side's features as unit vectors, from a bounded number of files."""
    rows = SideFeatures(features, side)
    filled = np.flatnonzero(np.diff(rows.starts))
    shards = _thinned(filled, _FEATURE_SHARDS)
    places = np.concatenate([np.arange(rows.starts[s], rows.starts[s + 1]) for s in shards])
    return rows.rows(_thinned(places, most))


def _thinned(values: np.ndarray, most: int) -> np.ndarray:
    """Return at most this many of the values, evenly spread."""
    if len(values) <= most:
        return values
    return values[np.arange(most) * len(values) // most]


def _of_cell(plan: CellPlan, digest: str, content: _Content) -> SubsetDistances:
    """Return a subset's distances under the name of its cell, with the terms of the bound."""
    assert plan.selector is not None
    measured = content["subsets"][digest]
    cell: SubsetDistances = {
        "representation": plan.representation,
        "selector": plan.selector,
        "budget": plan.budget,
        "seed": plan.seed,
        "rows": len(plan.positions),
        "digest": digest,
        **measured,
        "sampling": None,
        "deviation": None,
    }
    dimension = content["scale"] and content["scale"]["dimension"]
    if dimension and dimension["intrinsic"]:  # where nearly all rows are alike it is 0
        pool, subset = (Wasserstein(**part["chord"]) for part in (content["pool"], measured))
        budget, intrinsic = len(plan.positions), dimension["intrinsic"]
        terms = bound_terms(pool, subset, budget=budget, dimension=intrinsic)
        cell |= {"sampling": terms.sampling, "deviation": terms.deviation}
    return cell


def _note(subsets: list[SubsetDistances]) -> str:
    """Return the mean W1 of each method at the largest budget, random first."""
    most = max((cell["budget"] for cell in subsets), default=0)
    values: dict[str, list[float]] = {}
    for cell in subsets:
        if cell["budget"] == most:
            values.setdefault(cell["selector"], []).append(cell["w1"]["value"])
    words = ", ".join(f"{name} {mean(parts):.3f}" for name, parts in values.items())
    return f"W1 to the queries at {most}: {words}" if words else ""
