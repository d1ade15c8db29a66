"""What is known of each selected row besides its rank: margin, contributions, near-duplicates, ties.

Reads shards of scores and features one by one, without Ray. Memory holds one block of scores, one
shard of features, and two tiles of the selected rows' features, which lie in a temporary file.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tis_ray.analysis.margins import (
    NEAR,
    NearDuplicates,
    ScoreFacts,
    margins,
    near_duplicates,
    score_facts,
)
from tis_ray.finished.lineage import Lineage
from tis_ray.store.columns import Column
from tis_ray.store.feature_views import FeatureSet, SideFeatures
from tis_ray.store.score_matrix import BLOCK_VALUES, ScoreMatrix

EXPLAINED = {
    "rank": Column(pa.int64(), "place in the ordering, from 1"),
    "query_score": Column(pa.float64(), "the score that the query which pulled the row gives it"),
    "margin": Column(
        pa.float64(),
        "`query_score`, less the query's best score of a row that is not among the ranks up to this one",
    ),
    "checkpoint_1": Column(
        pa.float64(),
        "what the first checkpoint adds to `query_score` (weight × cosine), `checkpoint_2` the second, "
        "and so on; they add up to it",
    ),
    "duplicates": Column(
        pa.int64(), "other selected rows with a cosine of `--near` (0.95) or more in feature space"
    ),
    "nearest_id": Column(pa.string(), "the nearest other selected row"),
    "nearest_cosine": Column(pa.float64(), "its cosine"),
    "text": Column(pa.string(), "what the row says, turn by turn"),
    "query_text": Column(pa.string(), "what the query says, turn by turn"),
}
"""What `explain` adds to an ordering's columns, or says in another way, for all selected rows."""


@dataclass(frozen=True)
class Choices:
    """Of each of B selected rows: the score that its query gives it, and its margin; NaN if none."""

    own_B: np.ndarray
    margin_B: np.ndarray
    facts: ScoreFacts


@dataclass(frozen=True)
class FeatureFacts:
    """Of B selected rows: what each checkpoint adds to `own_B`, and their near-duplicates.

    contributions_BC: w_c <query_c, row_c>, NaN where no query pulled the row.
    """

    contributions_BC: np.ndarray
    near: NearDuplicates


def choices(lineage: Lineage) -> Choices | None:
    """Return margins and ties of a whole ordering; None if its scores are gone."""
    matrix = lineage.matrix
    if matrix is None:
        return None
    places_B, pulled_B = _places(lineage, matrix)
    outside_M = _best_outside(matrix, places_B)
    own_B, margin_B = np.full((2, len(places_B)), np.nan)
    queries = max(1, BLOCK_VALUES // len(places_B))
    for start in range(0, len(outside_M), queries):
        block = slice(start, start + queries)
        scores_mB = matrix.read(places_B, block)
        mine = np.flatnonzero((pulled_B >= start) & (pulled_B < block.stop))
        local_B = np.full(len(places_B), -1)
        local_B[mine] = pulled_B[mine] - start
        own_B[mine] = scores_mB[local_B[mine], mine]
        margin_B[mine] = margins(scores_mB, local_B, outside_M[block])[mine]
    outside_B = np.where(pulled_B >= 0, outside_M[pulled_B], np.nan)
    ranked_B = lineage.table["score"].to_numpy()
    return Choices(own_B, margin_B, score_facts(ranked_B, own_B, outside_B))


def feature_facts(
    lineage: Lineage, rows: slice = slice(None), near: float = NEAR
) -> FeatureFacts | None:
    """Return contributions and near-duplicates of some rows of an ordering, these among themselves.

    None if the pool's features were not kept.
    """
    matrix, features = lineage.matrix, lineage.features
    if matrix is None or features is None:
        return None
    places_B, pulled_B = (part[rows] for part in _places(lineage, matrix))
    query, pool = SideFeatures(features, "query"), SideFeatures(features, "pool")
    query_MCK = np.concatenate([values for _, values in query.parts(np.arange(len(query)))])
    _, checkpoints, width = query_MCK.shape
    contributions_BC = np.full((len(places_B), checkpoints), np.nan)
    with tempfile.TemporaryFile() as file:
        unit_BD = np.memmap(file, np.float32, shape=(len(places_B), checkpoints * width))
        for mine, values_ECK in pool.parts(places_B):
            unit_BD[mine] = pool.unit(values_ECK)
            pulled = pulled_B[mine] >= 0
            pullers_ECK = query_MCK[pulled_B[mine[pulled]]]
            products_EC = np.einsum("eck,eck->ec", values_ECK[pulled], pullers_ECK)
            contributions_BC[mine[pulled]] = products_EC * features.weights_C
        return FeatureFacts(contributions_BC, near_duplicates(unit_BD, near))


def explained(lineage: Lineage, near: float = NEAR) -> pa.Table:
    """Return an ordering's table with all that is known of its rows; ranks count from 1.

    Added, where scores or features are there: query_score (of the query that pulled the row), margin
    (see `tis_ray.analysis.margins`), checkpoint_1 and so on (what each adds to query_score),
    duplicates (selected rows with a cosine of `near` or more), nearest_id and nearest_cosine (of the
    nearest selected row).
    """
    table = lineage.table.drop_columns(["index", "query"])
    place = table.column_names.index("rank")
    table = table.set_column(place, "rank", pa.array(range(1, table.num_rows + 1)))
    why, facts = choices(lineage), feature_facts(lineage, near=near)
    if why is not None:
        table = _added(table, "query_score", why.own_B)
        table = _added(table, "margin", why.margin_B)
    if facts is not None:
        for c, part_B in enumerate(facts.contributions_BC.T, start=1):
            table = _added(table, f"checkpoint_{c}", part_B)
        ids = lineage.table["id"].to_pylist()
        names = [ids[place] if place >= 0 else None for place in facts.near.nearest.tolist()]
        table = table.append_column("duplicates", pa.array(facts.near.counts))
        table = table.append_column("nearest_id", pa.array(names, pa.string()))
        table = _added(table, "nearest_cosine", facts.near.cosines)
    return table


def margin_of(matrix: ScoreMatrix, index_B: np.ndarray, place: int, query: int) -> float | None:
    """Return the margin of one selected row, without those of the others; None if it has none.

    index_B: the selected pool rows, best first. query: the row of the matrix that pulled it.
    """
    scores_N = matrix.row(query)
    better_and_it = matrix.places(index_B[: place + 1])
    own = float(scores_N[better_and_it[-1]])
    rest = np.delete(scores_N, better_and_it)
    return own - float(rest.max()) if len(rest) else None


def contributions(lineage: Lineage, row: int, query: int) -> np.ndarray | None:
    """Return what each checkpoint adds to the score that a query gives a pool row (both by number): (C,).

    Reads the two files that their features lie in. None where features were not kept.
    """
    features, pool, queries = lineage.features, lineage.pool, lineage.query
    if features is None or pool is None or queries is None:
        return None
    theirs = _feature(features, "query", queries.shard(query), query)
    mine = _feature(features, "pool", pool.shard(row), row)
    if mine is None or theirs is None:
        return None
    added_C: np.ndarray = np.einsum("ck,ck->c", mine, theirs) * features.weights_C
    return added_C


def _feature(features: FeatureSet, side: str, shard: int, row: int) -> np.ndarray | None:
    """Return a row's feature (C, K) from its shard; None if it has none."""
    place = np.flatnonzero(features.rows(side, shard) == row)
    return features.read(side, shard, place)[0][0] if len(place) else None


def duplicates_in_pool(lineage: Lineage, row: int, near: float) -> list[tuple[int, float]] | None:
    """Return number and cosine of every other pool row that is nearly this one, nearest first.

    Streams the pool's features: all of them. None if they were not kept, or the row has none.
    """
    features, matrix = lineage.features, lineage.matrix
    if features is None or matrix is None:
        return None
    pool = SideFeatures(features, "pool")
    place = matrix.places(np.array([row]))
    if not len(place):
        return None
    mine_D = pool.rows(place)[0]
    duplicates = []
    for shard in range(features.shards["pool"]):
        rows_E = features.rows("pool", shard)
        if not len(rows_E):
            continue
        cosines_E = pool.unit(features.read("pool", shard)[0]) @ mine_D
        hits = np.flatnonzero((cosines_E >= near) & (rows_E != row))
        duplicates += [(int(rows_E[hit]), float(cosines_E[hit])) for hit in hits.tolist()]
    return sorted(duplicates, key=lambda pair: -pair[1])


def _places(lineage: Lineage, matrix: ScoreMatrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the selected rows' columns, and the rows of the matrix that pulled them, -1 for none."""
    queries_B = lineage.table["query"].to_numpy()
    pulled_B = np.searchsorted(matrix.queries_M, queries_B)
    return matrix.places(lineage.table["index"].to_numpy()), np.where(queries_B < 0, -1, pulled_B)


def _best_outside(matrix: ScoreMatrix, places_B: np.ndarray) -> np.ndarray:
    """Return each query's best score among the columns that were not selected, -inf without any."""
    best_M = np.full(len(matrix.queries_M), -np.inf, np.float32)
    chosen = np.sort(places_B)
    for start, scores_Mn in matrix.blocks():
        low, high = np.searchsorted(chosen, [start, start + scores_Mn.shape[1]])
        rest = np.delete(scores_Mn, chosen[low:high] - start, axis=1)
        best_M = np.maximum(best_M, rest.max(axis=1, initial=-np.inf))
    return best_M


def _added(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    """Append a column; NaN becomes null."""
    return table.append_column(name, pa.array(values, pa.float64(), from_pandas=True))
