"""The data sets of a study as a tracker records them: what each side was read from, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa

from tis_ray.config import Config
from tis_ray.settings.data import AnySource, FileSource, HubSource, ListSource
from tis_ray.store import Artifact
from tis_ray.store.sides import ROWS, SideName


@dataclass(frozen=True)
class DataSet:
    """The rows of one side. source_type and source: in the words of `mlflow.data`."""

    side: SideName
    name: str
    digest: str
    rows: int
    quarantined: int
    source_type: str
    source: Mapping[str, object]
    schema: pa.Schema = ROWS


def data_sets(config: Config, rows: Mapping[SideName, Artifact]) -> list[DataSet]:
    """Return the data set of each side that was read; its digest is the fingerprint of its rows."""
    found = []
    for side, artifact in rows.items():
        source = config.data.side(side)
        held_out = side == "test" and source.holdout is not None
        kind, described = _source(source)
        manifest = artifact.manifest()
        found.append(
            DataSet(
                side=side,
                name=_name(source) + (" (held out)" if held_out else ""),
                digest=artifact.fingerprint,
                rows=manifest.rows,
                quarantined=manifest.quarantined,
                source_type=kind,
                source=described,
            )
        )
    return found


def _name(source: AnySource) -> str:
    """Return what a person calls it: the file, the data set's id, or all of a list."""
    if isinstance(source, ListSource):
        return " + ".join(map(_name, source.sources))
    if isinstance(source, FileSource):
        return Path(source.path).name or source.path
    return source.name if isinstance(source, HubSource) else f"builtin {source.skill or 'pool'}"


def _source(source: AnySource) -> tuple[str, dict[str, object]]:
    """Return a source as MLflow writes its own kinds; what is none of them is described by its settings."""
    if isinstance(source, FileSource):
        scheme = urlsplit(source.path).scheme
        path = source.path if scheme else str(Path(source.path).absolute())
        return (scheme if scheme not in ("", "file") else "local"), {"uri": path}
    if isinstance(source, HubSource):
        described = {"config_name": source.config, "data_dir": None, "data_files": None}
        pinned = {"split": source.split, "revision": source.revision}
        return "hugging_face", {"path": source.name, **described, **pinned}
    return "code", {"tags": source.model_dump(mode="json", exclude_defaults=True)}
