"""The scores stage: `scores_MN`, similarities of queries and pool rows, in column shards on disk.

`scores-00000.npy` is (M, n_s) float32; its columns are the usable pool rows of some token shards, in
pool order, and `rows-00000.parquet` says which they are, with what was measured on the way (losses,
norms). `columns.npy` maps all columns to row numbers of the pool, `queries.npy` the rows of the matrix
to row numbers of the query set. Until all shards are scored each has files of its own in `parts`
(`noise-00000.npy`, of sketches, says how far its scores are off).
`certificate.json` says how far the scores are from exact.

Four ways lead here: from stored features, from features that are used once and dropped (`stream`),
from whole gradients without a projection (`exact`), and from texts (BM25).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import pyarrow as pa

from tis_ray.analysis.certificate import certificate
from tis_ray.analysis.recorded import RecordedCertificate
from tis_ray.distributed.shards import ShardWorker, map_shards, pending
from tis_ray.errors import InputError
from tis_ray.representations import Representation
from tis_ray.stages.context import Context
from tis_ray.stages.feature_recipe import Recipe
from tis_ray.stages.packed_scores import PackScores, packed, packed_noise, packs
from tis_ray.stages.score_workers import ScoreExact, ScoreRows, ScoreStored, ScoreStreamed
from tis_ray.storage import Place, listed, remove_folder
from tis_ray.store import (
    Artifact,
    fingerprint,
    read_json,
    read_npy,
    read_parquet,
    read_tables,
    write_json,
    write_npy,
    write_parquet,
)
from tis_ray.store.feature_store import require_same_space
from tis_ray.store.feature_views import FeatureSet, open_features
from tis_ray.store.row_origins import row_origins
from tis_ray.store.sides import QUARANTINE, Side

VERSION = 2
"""Of the artifact; 2: files hold the scores of many shards."""
PARTS = "parts"
CERTIFIED_COLUMNS = 8192
"""Columns on which the certificate's overlap is predicted, spread evenly over the pool."""
SHARES = (0.01, 0.05, 0.10)


def score_features(query: FeatureSet, pool: FeatureSet, context: Context) -> Artifact:
    """Score stored features; `query` and `pool` may be the views of one study or of two."""
    inputs = {
        "features": pool.artifact.fingerprint,
        "query_features": query.artifact.fingerprint,
        "weights": query.weights_C.tolist(),
    }
    way = _Way(
        worker=ScoreStored,
        arguments={"query": query, "pool": pool},
        shards=pool.shards["pool"],
        columns=pool.artifact.manifest().rows,
    )
    return _score(pool.representation, inputs, way, context)


def score_stream(
    recipe: Recipe,
    query: FeatureSet,
    sides: dict[str, Side],
    context: Context,
    wanted: np.ndarray | None = None,
) -> Artifact:
    """Score pool rows as they are featurised; their features are never written."""
    inputs = {
        "store": query.store.fingerprint,
        "query_features": query.artifact.fingerprint,
        "pool": sides["pool"].tokens.fingerprint,
        "weights": recipe.weights_C.tolist(),
        "wanted": None if wanted is None else fingerprint(wanted.tolist()),
    }
    way = _Way(
        worker=ScoreStreamed,
        arguments={"recipe": recipe, "query": query, "sides": sides, "wanted": wanted},
        shards=sides["pool"].shards,
        columns=sides["pool"].usable if wanted is None else len(wanted),
        model=True,
    )
    return _score(recipe.name, inputs, way, context)


def score_exact(
    recipe: Recipe,
    sides: dict[str, Side],
    context: Context,
    wanted: np.ndarray | None = None,
) -> Artifact:
    """Score pool rows by whole gradients, without a projection."""
    inputs = {
        "space": {k: v for k, v in recipe.space.items() if k not in ("sketch", "dtype")},
        "query": sides["query"].tokens.fingerprint,
        "pool": sides["pool"].tokens.fingerprint,
        "weights": recipe.weights_C.tolist(),
        "wanted": None if wanted is None else fingerprint(wanted.tolist()),
    }
    way = _Way(
        worker=ScoreExact,
        arguments={"recipe": recipe, "sides": sides, "wanted": wanted},
        shards=sides["pool"].shards,
        columns=sides["pool"].usable if wanted is None else len(wanted),
        model=True,
    )
    return _score(recipe.name, inputs, way, context)


def score_rows(method: Representation, sides: dict[str, Side], context: Context) -> Artifact:
    """Score pool rows by a representation that gives scores and no vectors, in one process."""
    settings = context.config.settings_of(method)
    inputs = {
        "method": method.identity(settings),
        "query": sides["query"].tokens.fingerprint,
        "pool": sides["pool"].tokens.fingerprint,
    }
    way = _Way(
        worker=ScoreRows,
        arguments={"method": method, "settings": settings, "sides": sides},
        shards=sides["pool"].shards,
        columns=sides["pool"].usable,
        whole=True,
        kind=method.made_of,
    )
    return _score(method.name, inputs, way, context)


def score_folders(pool: Place, query: Place, out: Place) -> Place:
    """Score one run's pool features against another run's queries, in this process.

    Writes `scores.npy` (M, N), `columns.npy` and `queries.npy` (row numbers of both sides), what these
    rows are (`columns.parquet`, `queries.parquet`) and `certificate.json`; returns the matrix' path.
    Raises InputError, naming what differs, unless both are of one space.
    """
    ours, theirs = open_features(pool), open_features(query)
    for features, folder, side in ((ours, pool, "pool"), (theirs, query, "query")):
        if side not in features.shards:
            raise InputError(
                f"{folder}: holds no {side} features; give a `features-*` artifact that does"
            )
    # How pool features are stored is no property of the space: queries are always float32.
    spaces = [
        {
            k: v
            for k, v in {**f.store.space, "weights": f.weights_C.tolist()}.items()
            if k != "dtype"
        }
        for f in (ours, theirs)
    ]
    require_same_space(spaces[0], spaces[1], (str(pool), str(query)))
    out.mkdir(parents=True, exist_ok=True)
    worker = ScoreStored(theirs, ours, out=out / PARTS)
    shards = ours.shards["pool"]
    for shard in range(shards):
        worker(shard)
    rows, scores_MN = packed(out / PARTS, range(shards))
    columns_N = rows["row"].to_numpy()
    write_npy(out / "columns.npy", columns_N)
    noises = [read_npy(path) for path in listed(out / PARTS, "noise-*.npy")]
    write_json(out / "certificate.json", _certificate(noises, ScoreStored.KIND, columns_N))
    queries_M = read_npy(out / PARTS / "queries.npy")
    write_npy(out / "queries.npy", queries_M)
    ends: tuple[tuple[FeatureSet, Literal["pool", "query"], np.ndarray], ...] = (
        (ours, "pool", columns_N),
        (theirs, "query", queries_M),
    )
    for features, side, rows in ends:
        name = "columns.parquet" if side == "pool" else "queries.parquet"
        (out / name).unlink(missing_ok=True)
        if (known := row_origins(features.artifact, side, rows)) is not None:
            write_parquet(out / name, known)
    write_npy(out / "scores.npy", scores_MN)
    remove_folder(out / PARTS)
    return out / "scores.npy"


class ScoreWorker(ShardWorker, Protocol):
    """Scores a shard; KIND says from what ("" where the method says it)."""

    KIND: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One of the ways to scores: the worker, what it is built of, and the token shards of the pool.

    columns: about how many there will be. model: the worker runs the model (on a GPU if there is one).
    whole: it needs the whole pool, so it runs in this process, once. kind: what the scores are made
    from, where the worker does not know.
    """

    worker: type[ScoreWorker]
    arguments: Mapping[str, object]
    shards: int
    columns: int
    model: bool = False
    whole: bool = False
    kind: str = ""


def _score(name: str, inputs: Mapping[str, object], way: _Way, context: Context) -> Artifact:
    """Score the shards and bring the small files together."""
    inputs = {"worker": way.worker.__name__, **inputs}
    artifact = Artifact(context.root, f"scores-{name}", inputs, VERSION)
    reused, parts = artifact.complete, artifact / PARTS
    if not reused:
        clock = artifact.clock()
        artifact.path.mkdir(parents=True, exist_ok=True)
        with clock.marked():
            peak = _score_shards(name, way, parts, context)
            _pack(name, way, artifact, context)
        columns_N = _columns(artifact.path)
        if not len(columns_N):
            raise InputError(
                f"data.pool: no row has a {name} score; see the quarantine of the features"
            )
        queries_M = read_npy(parts / "queries.npy")
        lost = _lost_rows(parts)
        write_parquet(artifact / "quarantine.parquet", lost)
        write_npy(artifact / "columns.npy", columns_N)
        write_npy(artifact / "queries.npy", queries_M)
        kind = way.worker.KIND or way.kind
        noises = [read_npy(path) for path in listed(parts, "packed-noise-*.npy")]
        write_json(artifact / "certificate.json", _certificate(noises, kind, columns_N))
        artifact.commit(
            rows=len(columns_N),
            quarantined=lost.num_rows,
            seconds=clock.seconds,
            device=context.cluster.device if way.model else "cpu",
            peak_mb=peak,
            details={"shards": way.shards, "queries": len(queries_M)},
        )
    if parts.is_dir():  # of a start that was killed just here, too
        remove_folder(parts)
    context.log.made("scores", f"scores {name}", artifact, reused, _noise_note(artifact))
    return artifact


def _score_shards(name: str, way: _Way, out: Place, context: Context) -> float:
    """Score the shards that are missing in `out`; return the peak memory of the actors in MB."""
    todo = pending(out, "scores-{:05d}.npy", way.shards)
    stride = max(1, way.columns // CERTIFIED_COLUMNS)
    arguments = {**way.arguments, "out": out, "stride": stride}
    if way.whole:
        worker = way.worker(**arguments)
        for shard in todo:
            worker(shard)
        return 0.0
    label, light = f"scores {name}", not way.model
    totals = map_shards(way.worker, arguments, todo, context, label, gpu=way.model, light=light)
    return totals["peak_mb"]


def _pack(name: str, way: _Way, artifact: Artifact, context: Context) -> None:
    """Bring the files of all shards together in few."""
    parts = artifact / PARTS
    groups, noisy = packs(parts, way.shards), bool(listed(parts, "noise-*.npy"))
    todo = pending(artifact.path, "scores-{:05d}.npy", len(groups))
    arguments = {"parts": parts, "out": artifact.path, "groups": groups, "noisy": noisy}
    map_shards(PackScores, arguments, todo, context, f"scores {name}: files", light=True)


def _lost_rows(folder: Place) -> pa.Table:
    """Return the rows without a score, each once: every worker lists the queries among them."""
    lost = {
        tuple(row.values()): row
        for path in listed(folder, "lost-*.parquet")
        for row in read_parquet(path).to_pylist()
    }
    return pa.Table.from_pylist(list(lost.values()), QUARANTINE)


def read_certificate(scores: Artifact) -> RecordedCertificate:
    """Return how far the scores are from exact, as `certificate.json` says."""
    recorded: RecordedCertificate = read_json(scores / "certificate.json")
    return recorded


def _certificate(
    noises: Sequence[np.ndarray], kind: str, columns_N: np.ndarray
) -> dict[str, object]:
    """Return how far the scores of these columns are from exact, by the noise that the workers measured."""
    if not noises:
        return {"projection": False, "kind": kind}
    noise = packed_noise(noises)
    sums_M, squares_M = noise[:, :, 0]
    scores_Ms, noise_Ms = noise[:, :, 1:].astype(np.float32)
    measured = certificate(scores_Ms, sums_M, squares_M, len(columns_N), SHARES, noise_Ms=noise_Ms)
    return {"projection": True, "kind": kind, **measured.to_dict()}


def _noise_note(artifact: Artifact) -> str:
    recorded = read_certificate(artifact)
    if not recorded["projection"]:
        return ""
    overlap = recorded["predicted_overlap"]["0.05"]
    return f"noise {recorded['noise']:.4f}; top 5% agree with exact scores to about {overlap:.0%}"


def _columns(folder: Place) -> np.ndarray:
    """Return the row number of each column."""
    rows: np.ndarray = read_tables(folder, "rows-*.parquet", ["row"])["row"].to_numpy()
    return rows
