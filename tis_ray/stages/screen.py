"""The screen stage: which pool rows overlap with query or test rows, and which are dropped for it.

What is dropped here, and what the config excludes, goes to the pool's quarantine with its reason, so
no later stage (warm-up, features, random subsets) ever sees it. What overlaps and is kept is listed
all the same. The pool is read shard by shard, twice; `tis_ray.data.overlap` says what counts as an
overlap.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tis_ray.config import Config
from tis_ray.data import RejectReason, Row, format_tulu
from tis_ray.data.overlap import (
    Overlap,
    OverlapIndex,
    TargetSide,
    best,
    counts,
    embedding_overlaps,
    strongest,
)
from tis_ray.distributed.shards import ShardFacts, map_shards, pending
from tis_ray.errors import InputError
from tis_ray.log import peak_mb
from tis_ray.representations.embed import REPRESENTATION, EmbedSettings
from tis_ray.settings import OverlapConfig
from tis_ray.stages.context import Context
from tis_ray.stages.pool_duplicates import pool_duplicates
from tis_ray.stages.tokens import read_side
from tis_ray.storage import Place, listed
from tis_ray.store import (
    Artifact,
    read_ids,
    read_json,
    read_parquet,
    read_tables,
    write_json,
    write_parquet,
)
from tis_ray.store.columns import Column, schema_of
from tis_ray.store.sides import SideName, row_dicts

VERSION = 2
"""Of `screen-*`; 2: what the config excludes is no part of it."""
OVERLAPPING = {
    "pool_id": Column(pa.string(), "id of the pool row"),
    "side": Column(pa.string(), "what it repeats: a row of `query` or of `test`"),
    "target_id": Column(pa.string(), "id of that row"),
    "kind": Column(pa.string(), "how: `exact`, `ngram` (runs of words) or `embedding`"),
    "part": Column(pa.string(), "what of that row is repeated"),
    "value": Column(
        pa.float64(), "how much: 1 for `exact`, the share of its words in such runs, the cosine"
    ),
    "excerpt": Column(pa.string(), "the words that both have"),
}
"""A row of `overlaps.parquet`."""
OVERLAPS = schema_of(OVERLAPPING)
DROPPED = pa.schema([(name, pa.string()) for name in ("id", "reason", "detail")])
TARGETS: tuple[TargetSide, ...] = ("query", "test")
_BETWEEN = ("frequencies*.json", "overlaps-*", "equal-*", "runs-*", "shared-*")
"""Files of the steps between, that nobody needs when the stage is done."""
_REASONS = {"query": RejectReason.OVERLAPS_QUERY, "test": RejectReason.OVERLAPS_TEST}


@dataclass(frozen=True)
class Screen:
    """The result of screening.

    artifact: with `overlaps.parquet` (every overlap) and `dropped.parquet` (id, reason, detail).
    excluded: ids that the config excludes, of rows that are not dropped anyway.
    """

    artifact: Artifact
    excluded: frozenset[str]

    def overlaps(self) -> pa.Table:
        """Read the overlaps, the strongest of each pool row with each target first."""
        return read_parquet(self.artifact / "overlaps.parquet")

    def dropped(self) -> dict[str, tuple[str, str]]:
        """Return reason and detail of each pool row that is not to be used, by id."""
        table = read_parquet(self.artifact / "dropped.parquet").to_pydict()
        reason = str(RejectReason.EXCLUDED), "named by constraints.exclude"
        found = zip(table["id"], table["reason"], table["detail"], strict=True)
        every = dict.fromkeys(self.excluded, reason) | {name: why for name, *why in found}
        return {name: tuple(every[name]) for name in sorted(every)}

    def counts(self) -> dict[str, int]:
        """Return how many pool rows are not to be used, by reason."""
        return dict(Counter(reason for reason, _ in self.dropped().values()))


def target_rows(
    config: Config, rows: Mapping[SideName, Artifact]
) -> dict[TargetSide, list[Artifact]]:
    """Return the rows that the pool must not repeat: the study's own, and those of `overlap.also`.

    In the order of their fingerprints, so that tasks that name each other screen one pool, once.
    """
    targets: dict[TargetSide, list[Artifact]] = {}
    for side in TARGETS:
        sources = [task.source(side) for task in config.overlap.also]
        others = [read_side(config, side, source) for source in sources if source is not None]
        artifacts = [*([rows[side]] if side in rows else []), *others]
        own = {artifact.fingerprint: artifact for artifact in artifacts}
        targets[side] = [own[key] for key in sorted(own)]
    return targets


def screen_pool(context: Context, rows: Mapping[SideName, Artifact]) -> Screen:
    """Find what the pool shares with query and test rows, and what of it is dropped."""
    config = context.config
    excluded = _excluded(config, rows["pool"])
    targets = target_rows(config, rows)
    inputs: dict[str, object] = {
        "pool": rows["pool"].fingerprint,
        **{side: [artifact.fingerprint for artifact in targets[side]] for side in TARGETS},
        "overlap": config.overlap.model_dump(mode="json", exclude=_unused(config.overlap)),
    }
    encoder = _encoder(config) if config.overlap.embedding is not None else None
    if encoder is not None:
        from tis_ray.representations.embed.features import encoder_identity

        inputs["encoder"] = encoder_identity(encoder)
    artifact = Artifact(config.artifact_root, "screen", inputs, VERSION)
    reused = artifact.complete
    if not reused:
        clock = artifact.clock()
        with clock.marked():
            overlaps = _find_overlaps(context, artifact, rows["pool"], targets, encoder)
        dropped = _dropped(config.overlap, overlaps)
        already = {row["id"] for row in dropped}
        dropped += [
            row
            for row in pool_duplicates(context, artifact, rows["pool"], config.overlap)
            if row["id"] not in already
        ]
        table = pa.Table.from_pylist([asdict(o) for o in strongest(overlaps)], schema=OVERLAPS)
        write_parquet(artifact / "overlaps.parquet", table)
        write_parquet(artifact / "dropped.parquet", pa.Table.from_pylist(dropped, schema=DROPPED))
        artifact.commit(
            rows=int(rows["pool"].manifest().rows),
            seconds=clock.seconds,
            peak_mb=peak_mb(),
            details={
                "overlaps": counts(overlaps),
                "dropped": dict(Counter(row["reason"] for row in dropped)),
            },
        )
        for name in _BETWEEN:
            for path in listed(artifact.path, name):
                path.unlink()
    screen = Screen(artifact, frozenset(excluded))
    note = _note(artifact.manifest().details["overlaps"], sum(screen.counts().values()))
    context.log.made("screen", "screen", artifact, reused, note)
    return screen


def _unused(settings: OverlapConfig) -> set[str]:
    """Return the fields that the screen does not depend on, as they are set."""
    return {"also", "pool"} if settings.pool == "keep" else {"also"}


def _encoder(config: Config) -> EmbedSettings:
    """Return the encoder of the representation that compares sentences."""
    settings: EmbedSettings = config.settings_of(REPRESENTATION)
    return settings


class FindOverlaps:
    """Looks up one shard of the pool: once for how frequent texts are, then for overlaps."""

    def __init__(
        self,
        pool: Place,
        targets: dict[TargetSide, list[Place]],
        out: Place,
        settings: OverlapConfig,
        frequencies: Place | None = None,
        encoder: EmbedSettings | None = None,
        device: str = "cpu",
    ) -> None:
        self.pool, self.out, self.settings = pool, out, settings
        rows = {side: [r for p in paths for r in _rows_of(p)] for side, paths in targets.items()}
        self.index = OverlapIndex(rows, n=settings.ngram, threshold=settings.threshold)
        self.second = frequencies is not None
        if frequencies is not None:
            counted = read_json(frequencies)
            self.index.pass_over(counted["frequencies"], counted["rows"])
        self.embed = None
        if self.second and encoder is not None:
            from tis_ray.representations.embed.features import Embed

            self.embed = Embed(encoder, device)
            self.ids = {side: [row["id"] for row in own] for side, own in rows.items()}
            self.targets = {side: self._embed(own) for side, own in rows.items()}

    def __call__(self, shard: int) -> ShardFacts:
        """Read one shard of the pool; write its frequencies or its overlaps."""
        start = time.monotonic()
        rows = [cast(Row, row) for row in row_dicts(self.pool / f"rows-{shard:05d}.parquet")]
        if self.second:
            overlaps = [asdict(overlap) for overlap in self._find(rows)]
            table = pa.Table.from_pylist(overlaps, schema=OVERLAPS)
            write_parquet(self.out / f"overlaps-{shard:05d}.parquet", table)
        else:
            frequencies = dict(sorted(self.index.frequencies(rows).items()))
            write_json(self.out / f"frequencies-{shard:05d}.json", frequencies)
        return {"rows": len(rows), "seconds": time.monotonic() - start}

    def _find(self, rows: list[Row]) -> Iterator[Overlap]:
        yield from self.index.find(rows)
        if self.embed is None:
            return
        rows_EK = self._embed(rows)
        for side, targets_MK in self.targets.items():
            assert self.settings.embedding is not None
            yield from embedding_overlaps(
                rows, rows_EK, side, self.ids[side], targets_MK, threshold=self.settings.embedding
            )

    def _embed(self, rows: list[Row]) -> np.ndarray:
        """Return unit vectors (rows, K) of whole rows, with the paper's template and no prefix."""
        assert self.embed is not None
        texts = [{"text": format_tulu(row["messages"], "")} for row in rows]
        values_ECK = self.embed.features(texts, "pool").values_ECK
        return values_ECK[:, 0]


def _find_overlaps(
    context: Context,
    artifact: Artifact,
    pool: Artifact,
    targets: dict[TargetSide, list[Artifact]],
    encoder: EmbedSettings | None,
) -> list[Overlap]:
    config = context.config
    shards = int(pool.manifest().details["shards"])
    arguments: dict[str, object] = {
        "pool": pool.path,
        "targets": {side: [artifact.path for artifact in targets[side]] for side in TARGETS},
        "out": artifact.path,
        "settings": config.overlap,
    }
    counted = artifact / "frequencies.json"
    if not counted.exists():
        todo = pending(artifact.path, "frequencies-{:05d}.json", shards)
        map_shards(FindOverlaps, arguments, todo, context, "screen: words", light=True)
        total: Counter[str] = Counter()
        for path in listed(artifact.path, "frequencies-*.json"):
            total.update(read_json(path))
        frequencies = {"rows": pool.manifest().rows, "frequencies": dict(sorted(total.items()))}
        write_json(counted, frequencies)
    arguments |= {"frequencies": counted, "encoder": encoder}
    arguments["device"] = context.cluster.device
    todo = pending(artifact.path, "overlaps-{:05d}.parquet", shards)
    light = encoder is None
    map_shards(
        FindOverlaps, arguments, todo, context, "screen: overlaps", gpu=not light, light=light
    )
    rows = read_tables(artifact.path, "overlaps-*.parquet").to_pylist()
    return [Overlap(**row) for row in rows]


def _excluded(config: Config, pool: Artifact) -> set[str]:
    """Return the ids that the config excludes. Raises InputError for one that no pool row has."""
    excluded = read_ids(config.constraints.exclude, "constraints.exclude")
    if excluded:
        left = pa.array(sorted(excluded))
        for shard in range(int(pool.manifest().details["shards"])):
            ids = read_parquet(pool / f"rows-{shard:05d}.parquet", ["id"])["id"]
            left = left.filter(pc.invert(pc.is_in(left, ids)))
        if len(left):
            raise InputError(
                f"constraints.exclude: {left[0].as_py()!r} is not the id of a pool row"
                + (f" (nor are {len(left) - 1} more)" if len(left) > 1 else "")
                + "; check the spelling"
            )
    return excluded


def _dropped(settings: OverlapConfig, overlaps: list[Overlap]) -> list[dict[str, str]]:
    """Return the pool rows that are not to be used because of overlaps, one reason each."""
    dropped: dict[str, dict[str, str]] = {}
    sides = {side for side in TARGETS if getattr(settings, side) == "drop"}
    # One row may overlap with both sides: the test set is the worse.
    for overlap in sorted(best(overlaps), key=lambda o: o.side != "test"):
        if overlap.side in sides:
            detail = (
                f"{overlap.kind} overlap, {overlap.value:.2f}, with the {overlap.part} of "
                f"{overlap.side} row {overlap.target_id}: {overlap.excerpt}"
            )
            entry = {"id": overlap.pool_id, "reason": str(_REASONS[overlap.side])}
            dropped.setdefault(overlap.pool_id, {**entry, "detail": detail})
    return [dropped[name] for name in sorted(dropped)]


def _rows_of(folder: Place) -> Iterator[Row]:
    for path in listed(folder, "rows-*.parquet"):
        yield from (cast(Row, row) for row in row_dicts(path))


def _note(overlaps: Mapping[str, Mapping[str, int]], lost: int) -> str:
    """Return the outcome in words, for the log."""
    parts = []
    for side, kinds in overlaps.items():
        rows = sum(count for kind, count in kinds.items() if kind != "targets")
        parts.append(f"{rows} overlap with {kinds['targets']} {side} rows")
    if lost:
        parts.append(f"{lost} dropped")
    return "; ".join(parts) or "no overlap with query or test rows"
