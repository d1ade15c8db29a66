"""Gathering a study's record for its report: results, selected texts, the map, composition, costs."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from tis_ray.analysis import Method
from tis_ray.analysis.agreement import pairwise_agreement
from tis_ray.analysis.pca import principal_plane
from tis_ray.analysis.recorded import (
    Overlaps,
    PoolMap,
    QuarantinedRow,
    RecordedCertificate,
    ScoreRange,
    SelectedRow,
    SelectedRows,
)
from tis_ray.analysis.study_values import POOL, QUERIES, Part
from tis_ray.finished.choices import FeatureFacts, choices, feature_facts
from tis_ray.finished.lineage import trace
from tis_ray.report import StudyRecord
from tis_ray.report.lengths_section import length_facts
from tis_ray.report.recorded_texts import MOST_TEXT, SelectedTexts, shared_out
from tis_ray.stages.ordering_artifact import StudyOrdering
from tis_ray.stages.rows_to_scores import Represented
from tis_ray.stages.scores import read_certificate
from tis_ray.stages.screen import Screen
from tis_ray.store import read_parquet
from tis_ray.store.feature_views import FeatureSet
from tis_ray.store.sides import Side
from tis_ray.store.usable_rows import UsableRows
from tis_ray.study.labels import legend_of
from tis_ray.study.texts import graded_answers, side_texts

if TYPE_CHECKING:
    from tis_ray.study.study import Study

COMPARED_ROWS = 1000
"""Rows of each ordering among which near-duplicates are looked for: that takes their number squared."""
SHOWN_OVERLAPS = 100
"""Overlapping pairs that the report holds, the strongest first."""
MAP_ROWS = 5000
"""Pool rows on the map; a larger pool is thinned evenly (selected rows always stay)."""


def study_record(study: Study, command: str) -> StudyRecord:
    """Return the record of a study, all of whose steps are done by then.

    The map is of the first representation that kept features. `command` makes the study again.
    """
    cells, quantiles, distances = study.cells, study.quantiles, study.distances
    config, pool, query = study.tuned.config, study.pool, study.query
    features = next((r.pool_features for r in study.represented if r.pool_features), None)
    # Of a selector that draws, one seed's subset stands for the others.
    orderings = [o for o in study.orderings if o.seed in (None, config.seed[0])]
    facts = pool.usable_rows
    composition = {POOL: facts.counts()}
    lengths = {
        POOL: length_facts(facts.tokens_N, facts.responses_N),
        QUERIES: length_facts(query.usable_rows.tokens_N, query.usable_rows.responses_N),
    }
    for ordering in orderings:
        table = ordering.table()
        for budget, filled in ordering.filled().items():
            part = Part(method=_method(ordering), budget=budget)
            composition[part] = dict(Counter(table["source"].to_pylist()[: filled.rows]))
            places = facts.places(table["index"].to_numpy()[: filled.rows])
            lengths[part] = length_facts(facts.tokens_N[places], facts.responses_N[places])
    return StudyRecord(
        name=config.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        config=config.model_dump(mode="json"),
        legend=legend_of(config),
        cells=cells,
        quantiles=quantiles,
        overlaps=_overlaps(study.screen),
        orderings=[_selected_rows(o) for o in orderings],
        texts=_selected_texts(orderings, pool, query),
        answers=graded_answers(cells, study.test),
        agreement=pairwise_agreement(
            {_method(o): o.table()["index"].to_numpy() for o in orderings}, len(facts)
        ),
        map=_map(features, orderings, facts) if features else None,
        certificates=_certificates(study.represented),
        distances=distances,
        composition=composition,
        lengths=lengths,
        stages=list(study.log.stages),
        quarantined=[
            *(row for side in study.sides.values() for row in side.quarantined()),
            *(row for represented in study.represented for row in _without_feature(represented)),
        ],
        command=command,
        budget_unit=config.budget_unit,
        environment=_environment(),
    )


def _selected_rows(ordering: StudyOrdering) -> SelectedRows:
    """Return the rows of an ordering with their margins, and near-duplicates of the first."""
    table = ordering.table()
    lineage = trace(ordering.artifact.path, ordering.name)
    chosen, alike = choices(lineage), feature_facts(lineage, slice(COMPARED_ROWS))
    plain = zip(*(table[name].to_pylist() for name in ("index", "score", "query")), strict=True)
    rows: list[SelectedRow] = []
    for rank, (index, score, query) in enumerate(plain):
        row: SelectedRow = {"index": index, "score": _shorter(score), "query": query}
        if chosen:
            row["margin"] = _shorter(chosen.margin_B[rank])
        if alike and rank < COMPARED_ROWS:
            row.update(_near_duplicates(alike, rank))
        rows.append(row)
    return SelectedRows(
        representation=ordering.representation,
        selector=ordering.selector,
        budget=table.num_rows,
        rows=rows,
        scores=cast(ScoreRange, chosen.facts.to_dict()) if chosen else None,
    )


def _shorter(value: float | None) -> float | None:
    """Return a number with the digits that float32 has: half the characters."""
    return None if value is None else float(f"{value:.7g}")


def _selected_texts(orderings: Sequence[StudyOrdering], pool: Side, query: Side) -> SelectedTexts:
    """Return the texts of all selected rows and of their queries, each once."""
    tables = [o.table().select(["index", "query"]) for o in orderings]
    wanted = {row for table in tables for row in table["index"].to_pylist()}
    pulled = {row for table in tables for row in table["query"].to_pylist()}
    rows, queries = side_texts(pool, wanted), side_texts(query, pulled)
    texts = shared_out([row["text"] for row in (*rows, *queries)], MOST_TEXT)
    return {
        "rows": [
            {
                "index": row["row"],
                "id": row["id"],
                "source": row["source"] or "",
                "file": row["file"],
                "line": row["line"],
                "text": text,
            }
            for row, text in zip(rows, texts, strict=False)
        ],
        "queries": [
            {"query": row["row"], "id": row["id"], "text": text}
            for row, text in zip(queries, texts[len(rows) :], strict=True)
        ],
    }


def _method(ordering: StudyOrdering) -> Method:
    return Method(ordering.representation, ordering.selector)


def _overlaps(screen: Screen) -> Overlaps:
    """Return how much of the pool repeats queries or test rows, and the strongest pairs."""
    return {
        "counts": screen.artifact.manifest().details["overlaps"],
        "dropped": screen.counts(),
        "rows": screen.overlaps().slice(0, SHOWN_OVERLAPS).to_pylist(),
    }


def _near_duplicates(alike: FeatureFacts, rank: int) -> SelectedRow:
    nearest = int(alike.near.nearest[rank])
    return {
        "duplicates": int(alike.near.counts[rank]),
        "nearest_rank": nearest if nearest >= 0 else None,
        "nearest_cosine": _shorter(alike.near.cosines[rank]),
    }


def _certificates(represented: list[Represented]) -> list[RecordedCertificate]:
    """Return, for each representation, how far its scores are from exact, and what a cascade lost."""
    return [
        {
            "representation": each.name,
            **read_certificate(each.scores),
            **({"cascade": each.cascade} if each.cascade else {}),
        }
        for each in represented
        if each.scores
    ]


def _without_feature(represented: Represented) -> list[QuarantinedRow]:
    """Return the rows that a representation could not use, and why."""
    artifacts = (represented.features and represented.features.artifact, represented.scores)
    rows: list[QuarantinedRow] = [
        row
        for artifact in artifacts
        if artifact
        for row in read_parquet(artifact / "quarantine.parquet").to_pylist()
    ]
    for row in rows:
        row["detail"] = f"representation {represented.name}"
    return rows


def _map(features: FeatureSet, orderings: list[StudyOrdering], facts: UsableRows) -> PoolMap:
    """Place pool and queries in the plane of the features' two principal components."""
    chosen = {_method(o): o.table()["index"].to_pylist() for o in orderings}
    keep_always = np.array([row for rows in chosen.values() for row in rows], np.int64)
    stride = max(1, features.count("pool") // MAP_ROWS)
    rows, parts, seen = [], [], 0
    heaviest = int(np.argmax(features.weights_C))  # one checkpoint is enough for a picture
    for shard in range(features.shards["pool"]):
        numbers = features.rows("pool", shard)
        on_the_way = (seen + np.arange(len(numbers))) % stride == 0
        kept = np.flatnonzero(on_the_way | np.isin(numbers, keep_always))
        seen += len(numbers)
        if len(kept):
            parts.append(features.read("pool", shard, kept)[0][:, heaviest])
        rows += numbers[kept].tolist()
    query_MD = np.concatenate(
        [
            features.read("query", shard)[0][:, heaviest]
            for shard in range(features.shards["query"])
            if len(features.rows("query", shard))
        ]
    )
    pool_xy, query_xy = principal_plane(np.concatenate(parts), query_MD)
    place = {row: position for position, row in enumerate(rows)}
    return {
        "representation": features.representation,
        "pool_xy": np.round(pool_xy, 4).tolist(),
        "pool_source": facts.sources_of(np.array(rows)),
        "query_xy": np.round(query_xy, 4).tolist(),
        "selected": {
            method: [place[row] for row in picked if row in place]
            for method, picked in chosen.items()
        },
    }


def _environment() -> dict[str, str]:
    names = ("tis_ray", "torch", "transformers", "peft", "ray")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}
