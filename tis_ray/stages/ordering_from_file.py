"""An ordering from the user's own file, filled to the budgets as one of the study's orderings."""

from __future__ import annotations

import numpy as np

from tis_ray.errors import InputError
from tis_ray.methods import READY
from tis_ray.representations import Representation
from tis_ray.representations.given import Given
from tis_ray.stages.constrain import Constrainer
from tis_ray.stages.context import Context
from tis_ray.stages.ordering_artifact import StudyOrdering, ordering_table
from tis_ray.store import Artifact
from tis_ray.store.given_files import read_ordering
from tis_ray.store.sides import Side

VERSION = 3


def given_ordering(
    method: Representation, context: Context, pool: Side, query: Side
) -> StudyOrdering:
    """Return a ready ordering, filled to the study's budgets under its constraints.

    Raises InputError where the file is shorter than the budgets, or names rows that the study does
    not use.
    """
    assert isinstance(method, Given)
    config, key = context.config, method.key("ordering")
    constrainer = Constrainer(config, pool)
    artifact = Artifact(
        context.root,
        f"ordering-{method.name}-{READY}",
        {
            "method": method.identity(config.settings_of(method)),
            "pool": pool.tokens.fingerprint,
            "subsets": constrainer.identity,
        },
        VERSION,
    )
    ordering = StudyOrdering(method.name, READY, artifact)
    reused = artifact.complete
    if not reused:
        clock = artifact.clock()
        row_of = {
            name: row
            for shard in range(pool.shards)
            for facts in [pool.token_facts(shard).select(["id", "row"]).to_pydict()]
            for name, row in zip(facts["id"], facts["row"], strict=True)
        }
        lost = {row["id"]: row["reason"] for row in pool.quarantined()}
        ranked, given_scores = read_ordering(str(method.files.ordering), key, row_of, lost)
        if config.budget_unit == "examples" and max(config.budget) > len(ranked):
            raise InputError(
                f"{key}: holds {len(ranked)} rows, but the largest budget is {max(config.budget)}; "
                "give a longer ordering, or lower the budget"
            )
        rows, filled = constrainer.fill(lambda length: ranked[:length], len(ranked))
        score_of = dict(zip(ranked.tolist(), given_scores, strict=True))
        scores = [score_of.get(row) for row in rows.tolist()]
        nothing = np.full(len(rows), -1)
        table = ordering_table(pool, rows, scores, nothing, [None] * len(rows), READY)
        ordering.commit(table, filled, pool, query, clock.seconds)
    context.log.made("ordering", f"{method.name} {READY}", artifact, reused)
    return ordering
