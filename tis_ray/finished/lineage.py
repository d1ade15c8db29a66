"""From an ordering back to what it was made of, by the fingerprints in the manifests.

Works on what a run has left on disk, without Ray. Scores and features may have been deleted to save
space, or never kept: then they are None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tis_ray.errors import InputError
from tis_ray.store import read_manifest, read_parquet
from tis_ray.store.feature_views import FeatureSet, open_features
from tis_ray.store.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class Lineage:
    """An ordering, the scores it ranks, and the features and pool tokens behind these.

    features: of pool and queries; None where the pool's were not kept. tokens: the folder of the pool's.
    """

    method: str
    table: pa.Table
    matrix: ScoreMatrix | None
    features: FeatureSet | None
    tokens: Path | None

    @property
    def representation(self) -> str:
        """The representation that was scored."""
        return self.method.partition("-")[0]

    def row_of(self, example: str) -> int | None:
        """Return a pool row's number by its id; None where the tokens are gone or lack it."""
        for path in self._token_files():
            table = read_parquet(path, columns=["row", "id"])
            rows = table.filter(pc.equal(table["id"], example))["row"]
            if len(rows):
                return int(rows[0].as_py())
        return None

    def refusal_of(self, example: str) -> str | None:
        """Return why a pool row of this id was not used, and where it stands; None if none was refused."""
        if self.tokens is None or not example:
            return None
        read = _folder(self.tokens.parent, "rows", _input(self.tokens, "rows"))
        paths = (folder / "quarantine.parquet" for folder in (self.tokens, read) if folder)
        for table in map(read_parquet, filter(Path.is_file, paths)):
            for row in table.filter(pc.equal(table["id"], example)).to_pylist()[:1]:
                return f"{row['reason']}: {row['detail']}; {row['file']}, line {row['line']}"
        return None

    def ids(self, shard: int) -> dict[int, str]:
        """Return the ids of a token shard's rows, by row number."""
        assert self.tokens is not None
        table = read_parquet(self.tokens / f"tokens-{shard:05d}.parquet", columns=["row", "id"])
        return dict(zip(table["row"].to_pylist(), table["id"].to_pylist(), strict=True))

    def _token_files(self) -> list[Path]:
        return sorted(self.tokens.glob("tokens-*.parquet")) if self.tokens else []


def lineages(run_dir: Path) -> list[Lineage]:
    """Return every ordering of a run. Raises InputError if there is none yet."""
    if not has_orderings(run_dir):
        raise InputError(f"{run_dir}: no ordering yet; run `tis-ray select` first")
    return [trace(path.parent, path.parent.name) for path in _orderings(run_dir)]


def has_orderings(run_dir: Path) -> bool:
    """Whether a run has selected."""
    return bool(_orderings(run_dir))


def _orderings(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "orderings").glob("*/ordering.parquet"))


def trace(ordering: Path, method: str) -> Lineage:
    """Return what lies behind the ordering in a folder."""
    path, root = ordering / "ordering.parquet", ordering.resolve().parent
    table = read_parquet(path)
    for column in ("index", "rank", "score", "query", "id", "source", "query_id", "file", "line"):
        if column not in table.column_names:
            raise InputError(
                f"{path}: has no column `{column}`, so another version of tis_ray wrote it; remove "
                f"{ordering.resolve()} and run `tis-ray select` again"
            )
    scores = _folder(root, "scores-*", _input(ordering, "scores"))
    if scores is None:
        return Lineage(method, table, None, None, None)
    kept = _folder(root, "features-*", _input(scores, "features"))
    tokens = _folder(root, "tokens", _input(kept or scores, "pool"))
    features = _features(kept) if kept else None
    return Lineage(method, table, ScoreMatrix(scores), features, tokens)


def _features(folder: Path) -> FeatureSet | None:
    try:
        return open_features(folder)
    except InputError:  # the store was deleted
        return None


def _folder(root: Path, stage: str, fingerprint: str | None) -> Path | None:
    return next(root.glob(f"{stage}-{fingerprint}"), None) if fingerprint else None


def _input(folder: Path, name: str) -> str | None:
    """Return the fingerprint of something that an artifact was made from."""
    value = read_manifest(folder).inputs.get(name)
    return value if isinstance(value, str) else None
