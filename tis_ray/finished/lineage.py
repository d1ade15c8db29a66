"""From an ordering back to what it was made of, by the fingerprints in the manifests.

Works on what a run has left on disk, without Ray. Scores and features may have been deleted to save
space, or never kept: then they are None.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from tis_ray.errors import InputError
from tis_ray.finished.stored_rows import StoredRows, is_file, place_of
from tis_ray.storage import Place, followed, pointers
from tis_ray.store import read_manifest, read_parquet
from tis_ray.store.feature_views import FeatureSet, open_features
from tis_ray.store.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class Lineage:
    """An ordering, the scores it ranks, and the features and rows behind these.

    features: of pool and queries; None where the pool's were not kept. pool, query: the rows as they
    were read. refused: the artifacts whose quarantine names pool rows that had no part.
    """

    method: str
    table: pa.Table
    matrix: ScoreMatrix | None = None
    features: FeatureSet | None = None
    pool: StoredRows | None = None
    query: StoredRows | None = None
    refused: tuple[Place, ...] = ()

    @property
    def representation(self) -> str:
        """The representation that was scored."""
        return self.method.partition("-")[0]

    def refusal_of(self, example: str) -> str | None:
        """Return why a pool row was not used, and where it stands; None if none of this name was refused.

        example: its id, or `FILE:LINE`.
        """
        file, line = place_of(example)
        for path in (folder / "quarantine.parquet" for folder in self.refused):
            for row in read_parquet(path).to_pylist() if path.is_file() else ():
                at_line = line and row["line"] == str(line) and is_file(file, row["file"])
                if example and (row["id"] == example or at_line):
                    detail = f": {row['detail']}" if row["detail"] else ""
                    place = f"; {row['file']}, line {row['line']}" if row["file"] else ""
                    return f"{row['reason']}{detail}{place}"
        return None


def lineages(run_dir: Place) -> list[Lineage]:
    """Return every ordering of a run. Raises InputError if there is none yet."""
    return [trace(followed(name), name.name) for name in require_orderings(run_dir)]


def require_orderings(run_dir: Place) -> list[Place]:
    """Return the names in a run's folder that lead to its orderings. Raises InputError if there is none."""
    if names := orderings_of(run_dir):
        return names
    folder = run_dir / "orderings"
    if folder.is_dir() and any(True for _ in folder.iterdir()):
        raise InputError(
            f"{run_dir}: its orderings lead to artifacts that are not there; a run's folder that is moved or "
            "copied needs its `artifacts` at the same place beside it, as they were"
        )
    raise InputError(
        f"{run_dir}: no ordering yet; `tis-ray select`, or `study.run('select')`, makes it"
    )


def has_orderings(run_dir: Place) -> bool:
    """Whether a run has selected."""
    return bool(orderings_of(run_dir))


def orderings_of(run_dir: Place) -> list[Place]:
    """Return the names in a run's folder that lead to its orderings."""
    names = pointers(run_dir / "orderings")
    return [name for name in names if (followed(name) / "ordering.parquet").exists()]


def trace(ordering: Place, method: str) -> Lineage:
    """Return what lies behind the ordering in a folder."""
    path, root = ordering / "ordering.parquet", followed(ordering).parent
    table = read_parquet(path)
    for column in ("index", "rank", "score", "query", "id", "source", "query_id", "file", "line"):
        if column not in table.column_names:
            raise InputError(
                f"{path}: has no column `{column}`, so another version of tis_ray wrote it; remove "
                f"{followed(ordering)} and select again"
            )
    scores = _folder(root, "scores-*", _input(ordering, "scores"))
    kept = _folder(root, "features-*", _input(scores, "features"))
    asked = _folder(root, "features-*", _input(scores, "query_features"))
    pool = _folder(root, "tokens", _input(kept or scores or ordering, "pool"))
    query = _folder(root, "tokens", _input(asked or scores, "query"))
    read, queries = (_folder(root, "rows", _input(tokens, "rows")) for tokens in (pool, query))
    return Lineage(
        method,
        table,
        ScoreMatrix(scores) if scores else None,
        _features(kept) if kept else None,
        StoredRows.of(read) if read else None,
        StoredRows.of(queries) if queries else None,
        tuple(folder for folder in (read, pool, kept, scores) if folder),
    )


def _features(folder: Place) -> FeatureSet | None:
    try:
        return open_features(folder)
    except InputError:  # the store was deleted
        return None


def _folder(root: Place, stage: str, fingerprint: str | None) -> Place | None:
    return next(root.glob(f"{stage}-{fingerprint}"), None) if fingerprint else None


def _input(folder: Place | None, name: str) -> str | None:
    """Return the fingerprint of something that an artifact was made from."""
    value = read_manifest(folder).inputs.get(name) if folder else None
    return value if isinstance(value, str) else None
