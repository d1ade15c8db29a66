"""How long the screen takes for a row of the pool: measured on a sample, for the price of a study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tis_ray.config import Config
from tis_ray.data import Row, format_tulu
from tis_ray.data.duplicates import row_runs
from tis_ray.data.overlap import OverlapIndex
from tis_ray.representations import Build
from tis_ray.representations.embed import REPRESENTATION
from tis_ray.store.sides import SideName

MOST = 64
"""Rows that an encoder reads."""


def time_screen(config: Config, rows: Mapping[SideName, Sequence[Row]], device: str) -> float:
    """Return seconds per pool row: both passes over words, near duplicates and sentences where those are looked for."""
    settings, pool = config.overlap, rows["pool"]
    index = OverlapIndex(
        {"query": rows["query"], "test": rows["test"]},
        n=settings.ngram,
        threshold=settings.threshold,
    )
    start = time.monotonic()
    index.pass_over(index.frequencies(pool), len(pool))
    sum(1 for _ in index.find(pool))
    if settings.pool == "near":
        row_runs(list(enumerate(pool)), settings.ngram)
    words = (time.monotonic() - start) / len(pool)
    if settings.embedding is None:
        return words
    read = pool[:MOST]
    texts = [{"text": format_tulu(row["messages"], "")} for row in read]
    encoder = REPRESENTATION.build(
        Build(config.settings_of(REPRESENTATION), config.model, config.batch, device)
    )
    encoder.features(texts[:2], "pool")  # the first ones also warm up
    start = time.monotonic()
    encoder.features(texts, "pool")
    return words + (time.monotonic() - start) / len(read)
