"""Which rows of pool or query set an artifact of features speaks of: ids, sources, files and lines."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa

from tis_ray.store.artifact import Artifact, read_manifest
from tis_ray.store.files import read_tables


def row_origins(
    features: Artifact, side: Literal["pool", "query"], rows: np.ndarray
) -> pa.Table | None:
    """Return row, id, source, file and line of these rows, in their order.

    None if the artifact of the rows is gone, of which only the features are left.
    """
    root = features.path.parent
    tokens = root / f"tokens-{features.manifest().inputs[side]}"
    if not (tokens / "_SUCCESS").exists():
        return None
    folder = root / f"rows-{read_manifest(tokens).inputs['rows']}"
    if not (folder / "_SUCCESS").exists():
        return None
    table = read_tables(folder, "rows-*.parquet", ["row", "id", "source", "file", "line"])
    numbers = table["row"].to_numpy()
    order = np.argsort(numbers)
    return table.take(pa.array(order[np.searchsorted(numbers[order], rows)]))
