"""One study's view of a feature store: which file of the store holds the feature of which row.

A `features-*` artifact has `<side>.parquet` for each side: runs of rows (`tis_ray.store.feature_runs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from tis_ray.errors import InputError
from tis_ray.storage import Place, followed
from tis_ray.store.artifact import Artifact, read_manifest
from tis_ray.store.feature_runs import Runs
from tis_ray.store.feature_store import FeatureStore


@dataclass(frozen=True)
class FeatureSet:
    """The features of one representation for a study's rows.

    shards: number of token shards of each side that is there ("query", and "pool" unless its
        features are not kept).
    """

    representation: str
    artifact: Artifact
    store: FeatureStore
    weights_C: np.ndarray
    has_halves: bool
    shards: dict[str, int]

    @cached_property
    def runs(self) -> dict[str, Runs]:
        """Where the features of each side lie; read once."""
        return {side: Runs.read(self.artifact / f"{side}.parquet") for side in self.shards}

    def __getstate__(self) -> dict[str, object]:
        """Leave what was read here behind: a worker reads what it needs itself."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def size(self, side: str) -> int:
        """Return how many bytes of files hold a side's features."""
        files = self.artifact.manifest().details["files"][side]
        return sum((self.store.path / side / name).stat().st_size for name in files)

    def rows(self, side: str, shard: int) -> np.ndarray:
        """Return the row numbers of a shard's features."""
        return self.runs[side].of(shard).rows()

    def count(self, side: str) -> int:
        """Return how many rows of a side have features."""
        return int(self.runs[side].count_R.sum())

    def read(
        self, side: str, shard: int, places: np.ndarray | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the features (rows, C, K) float32 of a shard, and the facts kept with them.

        places: rows of the shard, by their place in `rows`; None means all. Raises
        DamagedShardError if a file of the store was changed.
        """
        runs = self.runs[side].of(shard)
        owners, positions = runs.owners(), runs.positions()
        if places is not None:
            owners, positions = owners[places], positions[places]
        if not len(owners):
            return np.zeros((0, len(self.weights_C), 1), np.float32), {}
        members = {
            runs.files[owner]: np.flatnonzero(owners == owner)
            for owner in dict.fromkeys(owners.tolist())
        }
        order = np.argsort(np.concatenate(list(members.values())), kind="stable")
        shards = [self.store.read(side, file, positions[mine]) for file, mine in members.items()]

        def gather(parts: list[np.ndarray]) -> np.ndarray:
            joined: np.ndarray = parts[0] if len(parts) == 1 else np.concatenate(parts)[order]
            return joined

        return gather([s.values_ECK for s in shards]), {
            name: gather([s.columns[name] for s in shards]) for name in shards[0].columns
        }


class SideFeatures:
    """One side's features by their place: the row (query) or column (pool) of the scores.

    `rows` makes it the `tis_ray.selectors.density.Features` of a pool.
    """

    def __init__(self, features: FeatureSet, side: str) -> None:
        self.features, self.side = features, side
        counts = features.runs[side].counts(features.shards[side])
        self.starts = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def parts(self, places: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield positions in `places` and their features (n, C, K) as stored, shard by shard."""
        owners = np.searchsorted(self.starts, places, side="right") - 1
        for shard in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == shard)
            local = places[mine] - self.starts[shard]
            yield mine, self.features.read(self.side, shard, local)[0]

    def unit(self, values_ECK: np.ndarray) -> np.ndarray:
        """Return (E, C * K) unit vectors whose dot products are the rows' similarities."""
        # What was rounded is a little off the unit sphere.
        norms = np.linalg.norm(values_ECK, axis=2, keepdims=True)
        return combine(values_ECK / norms, self.features.weights_C)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Return (n, C * K) float32 unit vectors; reads each shard concerned once."""
        parts, order = [], []
        for mine, values_ECK in self.parts(indices):
            parts.append(self.unit(values_ECK))
            order.append(mine)
        joined: np.ndarray = np.concatenate(parts)[np.argsort(np.concatenate(order))]
        return joined


def combine(values_ECK: np.ndarray, weights_C: np.ndarray) -> np.ndarray:
    """Return (E, C * K) features whose dot products are the weighted sums over checkpoints.

    With rows f and g of unit vectors f_c, g_c: sum_c w_c <f_c, g_c> = <combine(f), combine(g)>.
    """
    scaled = values_ECK.astype(np.float32) * np.sqrt(weights_C, dtype=np.float32)[None, :, None]
    examples, checkpoints, width = scaled.shape
    return scaled.reshape(examples, checkpoints * width)


def open_features(folder: Place) -> FeatureSet:
    """Open the `features-*` artifact that a run left. Raises InputError if it is not whole."""
    folder = followed(folder)
    if not (folder / "_SUCCESS").exists():
        raise InputError(f"{folder}: holds no finished features; give a `features-*` artifact")
    manifest = read_manifest(folder)
    artifact = Artifact(folder.parent, manifest.stage, manifest.inputs, manifest.version)
    details = manifest.details
    store = FeatureStore.open(folder.parent / details["store"])
    return FeatureSet(
        manifest.stage.removeprefix("features-"),
        artifact,
        store,
        np.array(details["weights"]),
        details["halves"],
        details["shards"],
    )
