"""Reading of a large pool by the workers: the rows, ids, shards and bytes that one reader would leave.

The pool is parted into portions (`tis_ray.data.portions`). Each is read and checked by itself
(`ingest_read`), ids are settled by partitions of their keys (`ingest_ids`), and with the number of rows
that each portion keeps, the shards are cut (`ingest_write`). What lies between the steps is in the
artifact's folder until the last one is done, and an interrupted run goes on from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tis_ray.data import Rejected, RejectReason, described, files_by_kind
from tis_ray.data.files import RowFile, short_names
from tis_ray.data.portions import BYTES, Portion, portions_of
from tis_ray.data.reading import Unseen
from tis_ray.data.sources import SourcePart, file_digests, parts_of, too_small
from tis_ray.distributed.preflight import nodes_without
from tis_ray.distributed.shards import ShardFacts, ShardWorker, map_shards, pending
from tis_ray.errors import InputError
from tis_ray.log import peak_mb
from tis_ray.settings import AnySource
from tis_ray.stages.context import Context
from tis_ray.stages.ingest_ids import NamesThatMeet, SettleIds, keys_of, settled, write_other
from tis_ray.stages.ingest_read import ReadPortion
from tis_ray.stages.ingest_write import Drawn, LowestHashes, SettledRows, WriteShards, drawn
from tis_ray.stages.row_facts import RowFacts
from tis_ray.stages.tokens import rows_artifact
from tis_ray.storage import Place, remove_folder
from tis_ray.store import (
    Artifact,
    read_json,
    read_npy,
    read_parquet,
    write_json,
    write_parquet,
)
from tis_ray.store.shard_layout import ShardLayout

_ON_KEYS: tuple[type[ShardWorker], ...] = (SettleIds, NamesThatMeet)
LARGE = 256 << 20
"""Bytes of a pool from which workers read it; one process is done with fewer before they have started."""
LOOKED_FOR = 100
"""Files, about, that nodes are asked for."""
SOON_HASHED = 4 << 30
SOON_KEYED = 4
"""Bytes whose hashes, and partitions whose ids, one process has before others have started."""
KEYED_TOGETHER = 32
"""Portions, about, whose keys are settled in one go: a few hundred megabytes of them."""


def is_large(source: AnySource) -> bool:
    """Return whether workers read a pool. Raises InputError for a path that is missing."""
    if source.kind in ("builtin", "hub"):
        return False
    return sum(portion.size for portion in portions_of(parts_of(source, "pool"))) > LARGE


def nodes_without_pool(source: AnySource) -> list[str]:
    """Return the names of the nodes that do not see a pool on this machine's disks as this machine does."""
    files = [file.path for part in parts_of(source, "pool") for file in part.files]
    here = [path for path in files if isinstance(path, Path)]
    return nodes_without(here[:: max(1, len(here) // LOOKED_FOR)]) if here else []


def ingest(context: Context, size: int | None = None, light: bool = False) -> Artifact:
    """Return the rows of the pool, which workers read in portions of about `size` bytes (BYTES).

    light: few portions are read in this process. Errors are those of `tis_ray.stages.tokens.read_side`.
    """
    config, size = context.config, size or BYTES
    parts = parts_of(config.data.pool, "pool")
    portions = portions_of(parts, size)
    digests = _digests(context, portions, light)
    artifact = rows_artifact(config, "pool", config.data.pool, digests)
    if not artifact.complete:
        _Ingest(context, artifact, artifact / f"reading-{size}", parts, portions, light).run()
    return artifact


class Digest:
    """Takes the hashes of groups of files."""

    def __init__(self, groups: Sequence[Sequence[RowFile]], out: Place) -> None:
        self.groups, self.out = groups, out

    def __call__(self, group: int) -> ShardFacts:
        """Write the hashes of one group's files."""
        start = time.monotonic()
        digests = file_digests(self.groups[group])
        write_json(self.out / f"digests-{group:05d}.json", digests)
        return {"rows": len(digests), "seconds": time.monotonic() - start}


def _digests(context: Context, portions: Sequence[Portion], light: bool) -> dict[str, str]:
    """Return the hash of each of the pool's files, by its name; each file is read by one worker."""
    groups = _files_together(portions)
    out = context.config.run_dir / "digests"
    remove_folder(out)
    arguments = {"groups": groups, "out": out}
    numbers = range(len(groups))
    # One process is done with so little before others have started.
    light = light or sum(portion.size for portion in portions) < SOON_HASHED
    map_shards(Digest, arguments, numbers, context, "pool: hashes of files", light=light)
    found: dict[str, str] = {}
    for number in numbers:
        found |= read_json(out / f"digests-{number:05d}.json")
    remove_folder(out)
    return found


def _files_together(portions: Sequence[Portion]) -> list[list[RowFile]]:
    """Return the files of portions, each once, in groups of about BYTES and more."""
    groups: list[list[RowFile]] = []
    held = BYTES
    for portion in portions:
        if portion.files and not portion.goes_on:
            if held >= BYTES:
                groups.append([])
                held = 0
            groups[-1] += portion.files
        held += portion.size
    return groups


class _Ingest:
    """The reading of one pool."""

    def __init__(
        self,
        context: Context,
        artifact: Artifact,
        scratch: Place,
        parts: Sequence[SourcePart],
        portions: Sequence[Portion],
        light: bool,
    ) -> None:
        self.context, self.artifact, self.scratch, self.light = context, artifact, scratch, light
        self.source, self.parts, self.portions = context.config.data.pool, parts, portions
        self.partitions = -(-len(portions) // KEYED_TOGETHER)
        self.layout = ShardLayout(context.config.batch.shard_rows)

    def run(self) -> None:
        clock = self.artifact.clock()
        with clock.marked():
            read = self._read()
            kept = read["rows"] - self._settle_ids()
            rows = SettledRows(self.scratch, self.partitions, read["offsets"])
            rows, kept = self._draw(rows, kept)
            starts = [0, *np.cumsum(kept).tolist()]
            writing = {"rows": rows, "starts": starts, "layout": self.layout}
            self._step(
                "written-{:05d}.json",
                WriteShards,
                {**writing, "out": self.artifact.path},
                "writing",
            )
        facts, lost = self._facts(), self._lost()
        write_parquet(self.artifact / "quarantine.parquet", lost)
        if starts[-1] == 0:
            facts.rejected = [*map(_rejected, lost.to_pylist())]
            raise InputError(facts.nothing_usable(f"data.pool: {described(self.source)}"))
        facts.reasons.update(lost["reason"].to_pylist())
        self.artifact.commit(
            rows=starts[-1],
            quarantined=lost.num_rows,
            seconds=clock.seconds,
            peak_mb=peak_mb(),
            details={
                "shards": self.layout.count(starts[-1]),
                "files": files_by_kind(self.source),
                **facts.counts(),
            },
        )
        remove_folder(self.scratch)

    def _step(
        self,
        done: str,
        worker: type[ShardWorker],
        arguments: Mapping[str, Any],
        label: str,
        of: Sequence[int] | None = None,
    ) -> None:
        """Run a worker over portions (all, if `of` is None) or partitions whose file `done` is not there yet."""
        of = range(len(self.portions)) if of is None else of
        todo = pending(self.scratch, done, 1 + max(of, default=-1))
        light = self.light or (worker in _ON_KEYS and self.partitions <= SOON_KEYED)
        wanted = sorted({*todo} & {*of})
        map_shards(worker, arguments, wanted, self.context, f"pool: {label}", light=light)

    def _read(self) -> dict[str, Any]:
        """Read all portions; return the usable rows of each, and the lines of its file before it."""
        arguments = {"parts": self.parts, "portions": self.portions, "out": self.scratch}
        self._step(
            "facts-{:05d}.json",
            ReadPortion,
            {**arguments, "partitions": self.partitions},
            "reading",
        )
        facts = [read_json(self.scratch / f"facts-{k:05d}.json") for k in range(len(self.portions))]
        unseen = [Unseen(part.reading) for part in self.parts]
        offsets = [0] * len(facts)
        for k, (portion, own) in enumerate(zip(self.portions, facts, strict=True)):
            unseen[portion.part].keep(own["unseen"], own["objects"])
            if portion.goes_on:
                offsets[k] = offsets[k - 1] + facts[k - 1]["lines"]
        for part, left in zip(self.parts, unseen, strict=True):
            left.check(described(part.source))
        return {"rows": np.array([own["rows"] for own in facts], np.int64), "offsets": offsets}

    def _settle_ids(self) -> np.ndarray:
        """Settle all ids; return how many rows of each portion are refused for theirs."""
        count, every = len(self.portions), range(self.partitions)
        names = short_names([file for part in self.parts for file in part.files])
        arguments = {"out": self.scratch, "portions": count}
        self._step("settled-{:05d}.json", SettleIds, {**arguments, "names": names}, "ids", every)
        if any(self._settled(k)["named"] for k in every):
            looking = {**arguments, "partitions": self.partitions}
            self._step("met-{:05d}.json", NamesThatMeet, looking, "names of rows", every)
            if any(read_json(self.scratch / f"met-{k:05d}.json") for k in every):
                other = settled(keys_of(self.scratch, count, None), names)
                for k in every:
                    write_other(self.scratch, k, other.slice(0, None if k == 0 else 0))
        refused = np.zeros(count, np.int64)
        for k in every:
            for portion, rows in self._settled(k)["refused"]:
                refused[portion] += rows
        return refused

    def _settled(self, partition: int) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.scratch / f"settled-{partition:05d}.json")
        return found

    def _draw(self, rows: SettledRows, kept: np.ndarray) -> tuple[SettledRows, np.ndarray]:
        """Draw the samples that are asked for, of each source and then of the list of them."""
        of: list[tuple[AnySource, list[int]]] = []
        for place, part in enumerate(self.parts):
            portions = [k for k, portion in enumerate(self.portions) if portion.part == place]
            usable, source = int(kept[portions].sum()), part.source
            if source.weight is not None and usable < (source.sample or 0):
                raise too_small(source, usable)
            of.append((source, portions))
        of += [(self.source, [*range(len(self.portions))])] if self.source.kind == "list" else []
        for number, (each, portions) in enumerate(of):
            if each.sample is None:
                continue
            sample = Drawn(frozenset(portions), each.sample, each.sample_seed)
            arguments = {"rows": rows, "sample": sample, "number": number}
            self._step(f"lowest-{number}-{{:05d}}.npy", LowestHashes, arguments, "sample", portions)
            sample, counts = drawn(sample, partial(self._lowest, number))
            rows = replace(rows, samples=[*rows.samples, sample])
            kept = kept.copy()
            kept[[*counts]] = [*counts.values()]
        return rows, kept

    def _lowest(self, number: int, portion: int) -> np.ndarray:
        return read_npy(self.scratch / f"lowest-{number}-{portion:05d}.npy")

    def _facts(self) -> RowFacts:
        facts = RowFacts()
        for k in range(len(self.portions)):
            counts = read_json(self.scratch / f"written-{k:05d}.json")
            for source, schema, rows in counts["schemas"]:
                facts.count(source, schema, rows)
            for field, rows in counts["left_out"]:
                facts.count_left_out(field, rows)
        return facts

    def _lost(self) -> pa.Table:
        files = (self.scratch / f"quarantine-{k:05d}.parquet" for k in range(len(self.portions)))
        return pa.concat_tables(map(read_parquet, files))


def _rejected(row: Mapping[str, str]) -> Rejected:
    reason = RejectReason(row["reason"])
    return Rejected(row["file"], int(row["line"]), row["id"] or None, reason, row["detail"])
