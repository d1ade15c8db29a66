"""The cells of the distance-quantile experiment; see `tis_ray.analysis.quantiles`."""

from __future__ import annotations

import numpy as np

from tis_ray.analysis.quantiles import quantile_slices
from tis_ray.config import Config, QuantilesConfig
from tis_ray.stages.cluster import Cluster
from tis_ray.stages.log import RunLog, peak_mb
from tis_ray.stages.order import score_shards
from tis_ray.stages.represent import Represented
from tis_ray.stages.select import select_distributed
from tis_ray.stages.sweep import CellPlan
from tis_ray.stages.tokens import Side
from tis_ray.store import Artifact, write_npy


def plan_quantiles(
    config: Config,
    settings: QuantilesConfig,
    represented: list[Represented],
    pool: Side,
    cluster: Cluster,
    log: RunLog,
) -> list[CellPlan]:
    """Return a cell for each representation, quantile and seed."""
    facts = (pool.token_facts(shard)["row"].to_numpy() for shard in range(pool.shards))
    rows_N = np.concatenate(list(facts))
    cells = []
    for found in represented:
        assert found.scores is not None
        places_N = np.searchsorted(
            rows_N, _whole_order(found.name, found.scores, config, cluster, log)
        )
        slices = quantile_slices(len(places_N), settings.bins, settings.rows, settings.focus)
        cells += [
            CellPlan(
                found.name, "round_robin", settings.rows, seed, places_N[part], quantile=quantile
            )
            for quantile, part in slices.items()
            for seed in config.seed
        ]
    return cells


def _whole_order(
    name: str, scores: Artifact, config: Config, cluster: Cluster, log: RunLog
) -> np.ndarray:
    """Return the pool rows that have a score, in round-robin order."""
    artifact = Artifact(
        config.artifact_root, f"order-{name}", {"scores": scores.fingerprint, "rows": "all"}
    )
    reused = artifact.complete
    if not reused:
        clock = artifact.clock()
        columns_N = np.load(scores / "columns.npy")
        shards = score_shards(scores)
        found = select_distributed(shards, "round_robin", len(columns_N), cluster.actors)
        write_npy(artifact / "rows.npy", columns_N[found.indices])
        artifact.commit(rows=len(columns_N), seconds=clock.seconds, peak_mb=peak_mb())
    log.made(f"whole order {name}", artifact, reused)
    order: np.ndarray = np.load(artifact / "rows.npy")
    return order
