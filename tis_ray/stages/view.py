"""One side's rows and where their features lie in a store: what is missing, and the index of what is there.

Each shard of tokens is looked at once. Its rows are found in the store by the digest of their keys, as the file
of the same rows; rows that were in another shard once, as when a pool grew or was reordered, are found key by key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.store import Artifact, write_parquet
from tis_ray.store.feature_runs import runs_of, runs_table
from tis_ray.store.feature_store import DamagedShardError, FeatureStore, StoredKeys, rows_digest
from tis_ray.store.sides import Side


class _Rows(NamedTuple):
    """The wanted rows of a shard: their positions in it, their numbers, and their keys."""

    positions: np.ndarray
    numbers: np.ndarray
    keys: list[str]


class _Indexed(NamedTuple):
    """The runs of a shard (`feature_runs.RUN`), and its rows without a feature."""

    runs: np.ndarray
    lost: list[QuarantinedRow]


class _Awaited(NamedTuple):
    """A shard of which nothing is there yet: the digest of its rows, and their runs in the file to come."""

    digest: str
    runs: np.ndarray


class View:
    """The index of one side's features: `missing`, and when that has been made `write`.

    wanted: pool rows (their numbers, ascending) to look at; None means all. count, lacking: rows that were
    looked at, and those of them that the store lacked. lost: rows without a feature, in order.
    """

    def __init__(
        self, store: FeatureStore, role: str, side: Side, wanted: np.ndarray | None
    ) -> None:
        self.store, self.role, self.side = store, role, side
        self.wanted = wanted if role == "pool" else None
        self.count = self.lacking = 0
        self.lost: list[QuarantinedRow] = []
        self._numbers: dict[str, int] = {}
        self._unusable: dict[int, dict[int, str]] = {}
        self._indexed: dict[int, _Indexed] = {}
        self._awaited: dict[int, _Awaited] = {}

    def missing(self) -> Iterator[tuple[int, np.ndarray | None]]:
        """Yield each shard with rows that the store lacks, and their positions in it; None for all its rows."""
        lookup = _Lookup(self.store, self.role)
        for shard in range(self.side.shards):
            rows = self._rows(shard)
            owners, positions = self._places(rows, lookup)
            there = owners >= 0
            self.count += len(there)
            self.lacking += int((~there).sum())
            if there.all():
                self._indexed[shard] = self._index(shard, rows, owners, positions)
                continue
            if not there.any():
                runs = runs_of(shard, rows.numbers, owners, np.arange(len(there)))
                self._awaited[shard] = _Awaited(rows_digest(rows.keys), runs)
            everything = self.wanted is None and not there.any()
            yield shard, None if everything else rows.positions[~there]

    def write(self, artifact: Artifact) -> list[str]:
        """Write the index, `<side>.parquet`; return the names of the files it points to."""
        lookup = _Lookup(self.store, self.role)
        for shard in range(self.side.shards):
            if shard not in self._indexed:
                self._indexed[shard] = self._arrived(shard, lookup)
        indexed = [self._indexed[shard] for shard in range(self.side.shards)]
        self.lost = [row for each in indexed for row in each.lost]
        names = list(self._numbers)
        pointed = sorted({names[n] for each in indexed for n in np.unique(each.runs["file"])})
        if not set(pointed) <= set(lookup.files.values()):
            self._disappeared()
        table = runs_table([each.runs for each in indexed], names)
        write_parquet(artifact / f"{self.role}.parquet", table)
        return pointed

    def _arrived(self, shard: int, lookup: _Lookup) -> _Indexed:
        """Return the index of a shard some of whose rows were computed."""
        awaited = self._awaited.get(shard)
        if awaited is not None and (file := lookup.files.get(awaited.digest)) is not None:
            number = self._number(file)
            if not self._unusable[number]:
                awaited.runs["file"] = number
                return _Indexed(awaited.runs, [])
        rows = self._rows(shard)
        owners, positions = self._places(rows, lookup)
        if (owners < 0).any():
            self._disappeared()
        return self._index(shard, rows, owners, positions)

    def _disappeared(self) -> None:
        raise DamagedShardError(f"{self.store.path}: a shard disappeared while it was read")

    def _rows(self, shard: int) -> _Rows:
        table = self.side.token_table(shard, ["row", "content"])
        numbers = table["row"].to_numpy()
        positions = np.arange(len(numbers))
        if self.wanted is not None:
            positions = np.flatnonzero(np.isin(numbers, self.wanted))
            table = table.take(positions)
        return _Rows(positions, numbers[positions], table["content"].to_pylist())

    def _places(self, rows: _Rows, lookup: _Lookup) -> tuple[np.ndarray, np.ndarray]:
        """Return the file of each row, by its number here, and the position there; -1 for what is missing."""
        count = len(rows.keys)
        file = lookup.files.get(rows_digest(rows.keys))
        if file is not None:
            return np.full(count, self._number(file)), np.arange(count)
        if not count or not lookup.files:
            return np.full(count, -1), np.full(count, -1)
        owners, positions = lookup.keys.places(rows.keys)
        known = np.full(len(lookup.keys.files) + 1, -1)  # the last is that of -1
        for owner in np.unique(owners[owners >= 0]).tolist():
            known[owner] = self._number(lookup.keys.files[owner])
        return known[owners], positions

    def _number(self, file: str) -> int:
        """Return the number of a file; which of its rows are unusable is known from now on."""
        if file not in self._numbers:
            self._numbers[file] = len(self._numbers)
            self._unusable[self._numbers[file]] = self.store.unusable(self.role, file)
        return self._numbers[file]

    def _index(
        self, shard: int, rows: _Rows, owners: np.ndarray, positions: np.ndarray
    ) -> _Indexed:
        reasons: dict[int, str] = {}
        for owner in np.unique(owners).tolist():
            for position, reason in self._unusable[owner].items():
                mine = (owners == owner) & (positions == position)
                reasons |= dict.fromkeys(np.flatnonzero(mine).tolist(), reason)
        kept = np.ones(len(owners), bool)
        kept[list(reasons)] = False
        runs = runs_of(shard, rows.numbers[kept], owners[kept], positions[kept])
        return _Indexed(runs, self._without_feature(shard, rows, reasons))

    def _without_feature(
        self, shard: int, rows: _Rows, reasons: dict[int, str]
    ) -> list[QuarantinedRow]:
        if not reasons:
            return []
        names = self.side.token_table(shard, ["id"])["id"].take(rows.positions).to_pylist()
        return [
            QuarantinedRow(
                side=self.role,
                file="",
                line=str(rows.numbers[place]),
                id=names[place],
                reason=reason,
                detail="",
            )
            for place, reason in sorted(reasons.items())
        ]


class _Lookup:
    """What a side of a store holds now: files by the digest of their rows and, if need be, the keys of all."""

    def __init__(self, store: FeatureStore, role: str) -> None:
        self.store, self.role = store, role
        self.files = store.files(role)
        self._keys: StoredKeys | None = None

    @property
    def keys(self) -> StoredKeys:
        """The keys of all rows."""
        if self._keys is None:
            self._keys = self.store.keys(self.role)
        return self._keys
