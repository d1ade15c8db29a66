"""Fixtures of several stages."""

from __future__ import annotations

import pytest

from tests.small import small_study
from tests.stages.here import context_here
from tis_ray.stages.tokens import prepare_side, read_side
from tis_ray.store.sides import Side


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Side:
    """A pool of four shards, of which the second has lost two rows and the last one is short."""
    folder = tmp_path_factory.mktemp("pool")
    context = context_here(small_study(folder, data__pool__rows=150), folder)
    rows = read_side(context.config, "pool")
    ids = Side("pool", rows, rows, 4).row_table(1)["id"].to_pylist()
    dropped = {ids[3]: ("excluded", "x"), ids[30]: ("excluded", "x")}
    return prepare_side(context, "pool", rows, dropped=dropped)
