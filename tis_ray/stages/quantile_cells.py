"""The cells of the distance-quantile experiment; see `tis_ray.analysis.quantiles`."""

from __future__ import annotations

import numpy as np

from tis_ray.analysis.quantiles import quantile_slices
from tis_ray.distributed.held_scores import score_shards, select_distributed
from tis_ray.log import peak_mb
from tis_ray.selectors import BASELINE
from tis_ray.settings import QuantilesConfig
from tis_ray.stages.cells import CellPlan
from tis_ray.stages.context import Context
from tis_ray.stages.rows_to_scores import Represented
from tis_ray.store import Artifact, read_npy, write_npy
from tis_ray.store.sides import Side

VERSION = 1
"""Of the order that is cut into quantiles."""


def plan_quantiles(
    context: Context,
    settings: QuantilesConfig,
    represented: list[Represented],
    pool: Side,
) -> list[CellPlan]:
    """Return a cell for each representation that has scores, quantile and seed."""
    config = context.config
    facts = pool.usable_rows
    cells = []
    for scored in represented:
        if scored.scores is None:
            continue
        places_N = facts.places(_whole_order(scored.name, scored.scores, context))
        slices = quantile_slices(len(places_N), settings.bins, settings.rows, settings.focus)
        cells += [
            CellPlan(scored.name, BASELINE, settings.rows, seed, places_N[part], quantile=quantile)
            for quantile, part in slices.items()
            for seed in config.seed
        ]
    return cells


def _whole_order(name: str, scores: Artifact, context: Context) -> np.ndarray:
    """Return the pool rows that have a score, in round-robin order."""
    inputs = {"scores": scores.fingerprint, "rows": "all"}
    artifact = Artifact(context.root, f"order-{name}", inputs, VERSION)
    reused = artifact.complete
    if not reused:
        clock = artifact.clock()
        columns_N = read_npy(scores / "columns.npy")
        shards = score_shards(scores)
        ordering = select_distributed(shards, BASELINE, len(columns_N), context.cluster.actors)
        write_npy(artifact / "rows.npy", columns_N[ordering.indices])
        artifact.commit(rows=len(columns_N), seconds=clock.seconds, peak_mb=peak_mb())
    context.log.made("ordering", f"whole order {name}", artifact, reused)
    order: np.ndarray = read_npy(artifact / "rows.npy")
    return order
