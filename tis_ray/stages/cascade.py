"""A cascade: the part of the pool that a cheap representation keeps for a dear one, and what that loses.

Recall is measured by giving a uniform sample of the whole pool to the dear representation too: of the
rows that it would take from the sample, how many had the cheap one kept?
"""

from __future__ import annotations

import numpy as np

from tis_ray.analysis.intervals import wilson_interval
from tis_ray.analysis.recorded import Recall
from tis_ray.distributed.held_scores import score_shards, select_distributed
from tis_ray.errors import InputError
from tis_ray.representations import Cascade
from tis_ray.selectors import BASELINE
from tis_ray.stages.context import Context
from tis_ray.store import Artifact, fingerprint, read_json, read_npy, write_json, write_npy

KEPT_VERSION = 1
"""Of `kept-*`."""
RECALL_VERSION = 1
"""Of `recall-*`."""


def kept_rows(cascade: Cascade, cheap: Artifact, context: Context) -> np.ndarray:
    """Return the pool rows that the cheap representation keeps, ascending, from its scores."""
    config = context.config
    columns_N = read_npy(cheap / "columns.npy")
    count = max(1, round(cascade.keep * len(columns_N)))
    if config.budget_unit == "examples" and count < max(config.budget):
        raise InputError(
            f"{cascade.field}.keep: {cascade.keep:g} of {len(columns_N)} rows is {count}, less than "
            f"the budget of {max(config.budget)}; raise it"
        )
    inputs = {"scores": cheap.fingerprint, "count": count}
    artifact = Artifact(context.root, "kept", inputs, KEPT_VERSION)
    reused = artifact.complete
    if not reused:
        clock = artifact.clock()
        ordering = select_distributed(score_shards(cheap), BASELINE, count, context.cluster.actors)
        write_npy(artifact / "kept.npy", np.sort(columns_N[ordering.indices]))
        artifact.commit(rows=count, seconds=clock.seconds)
    context.log.made("kept", f"kept by {cascade.by}", artifact, reused)
    return read_npy(artifact / "kept.npy")


def recall_sample(cascade: Cascade, candidates: np.ndarray) -> np.ndarray:
    """Return a uniform sample of the pool rows that could have been kept, ascending."""
    size = min(cascade.sample, len(candidates))
    draw = np.random.default_rng([cascade.seed, len(candidates)])
    return np.sort(draw.permutation(candidates)[:size])


def cascade_recall(
    cascade: Cascade,
    label: str,
    kept: np.ndarray,
    candidates: int,
    scores: Artifact,
    context: Context,
) -> list[Recall]:
    """Return the recall of `kept` at the largest budget's share of the candidates, at 5% and at 10%.

    label: the dear representation, in words. scores: its scores of the sample.
    """
    columns_N = read_npy(scores / "columns.npy")
    share = max(context.config.budget) / candidates
    budgets = {s: max(1, round(s * len(columns_N))) for s in (share, 0.05, 0.10)}
    artifact = Artifact(
        context.root,
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
        order = select_distributed(shards, BASELINE, most, context.cluster.actors)
        inside = np.isin(columns_N[order.indices], kept)
        entries = []
        for part, count in budgets.items():
            hits = int(inside[:count].sum())
            low, high = wilson_interval(hits, count)
            entries.append(Recall(share=part, rows=count, kept=hits, low=low, high=high))
        write_json(artifact / "recall.json", entries)
        artifact.commit(rows=len(columns_N))
    recall: list[Recall] = read_json(artifact / "recall.json")
    first = recall[0]
    context.log.say(
        f"  cascade: of the {first['rows']} rows that {label} would take from a sample of "
        f"{len(columns_N)}, {cascade.by} kept {first['kept']} "
        f"(95% interval {first['low']:.0%} to {first['high']:.0%})"
    )
    return recall
