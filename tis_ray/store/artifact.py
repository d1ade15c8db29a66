"""An artifact: one stage's output folder `<stage>-<fingerprint>/`, with `manifest.json` and `_SUCCESS`.

The fingerprint is a hash of the stage's name and version, the schema, and the inputs that the stage
lists: what is in the list decides whether an artifact is reused or made again.

A stage asks `complete` first. If it is not, the stage writes its shards (each atomically), then
calls `commit`, which writes the manifest and, last of all, the marker. Whoever finds the marker
may trust every file beside it; whoever does not continues from the shards that exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tis_ray.errors import InputError
from tis_ray.storage import AnyPlace, Place, has_file, place
from tis_ray.store.atomic import json_bytes, write_bytes, write_new
from tis_ray.store.clock import Clock
from tis_ray.store.files import read_json
from tis_ray.store.fingerprint import fingerprint
from tis_ray.version import __version__

SCHEMA_VERSION = 3


@dataclass
class Manifest:
    """What an artifact holds and what it cost (wall seconds of all starts, peak memory in MB)."""

    stage: str
    inputs: Mapping[str, object]
    rows: int = 0
    quarantined: int = 0
    seconds: float = 0.0
    device: str = "cpu"
    peak_mb: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    schema_version: int = SCHEMA_VERSION
    code_version: str = __version__


class Artifact:
    """A stage's output folder, found by the fingerprint of its inputs."""

    def __init__(
        self, root: AnyPlace, stage: str, inputs: Mapping[str, object], version: int = 1
    ) -> None:
        """Name the artifact; `version` is of the stage's code, raised when its results change."""
        self.stage = stage
        self.inputs = inputs
        self.version = version
        named = {"stage": stage, "version": version, "schema": SCHEMA_VERSION}
        self.fingerprint = fingerprint({**inputs, **named})
        self.path: Place = place(root).absolute() / f"{stage}-{self.fingerprint}"

    @property
    def complete(self) -> bool:
        """Whether the marker is there, so that every file of the artifact may be trusted."""
        return has_file(self.path / "_SUCCESS")

    def clock(self) -> Clock:
        """Begin to make the artifact, or go on with it."""
        return Clock(self.path)

    def reopen(self) -> None:
        """Take back that the artifact is complete: something that it rests on has gone, and it is made again."""
        (self.path / "_SUCCESS").unlink(missing_ok=True)

    def commit(
        self,
        *,
        rows: int = 0,
        quarantined: int = 0,
        seconds: float = 0.0,
        device: str = "cpu",
        peak_mb: float = 0.0,
        details: Mapping[str, object] | None = None,
    ) -> Manifest:
        """Write the manifest, then the marker."""
        manifest = Manifest(
            stage=self.stage,
            inputs=self.inputs,
            rows=rows,
            quarantined=quarantined,
            seconds=seconds,
            device=device,
            peak_mb=peak_mb,
            details=dict(details or {}),
            version=self.version,
        )
        content = json_bytes(asdict(manifest))
        if not write_new(self.path / "manifest.json", content):
            if self.complete:  # another driver was faster: the artifact is the same
                return self.manifest()
            # That of a start that was killed just here, or of what is made again.
            write_bytes(self.path / "manifest.json", content)
        (self.path / Clock.FILE).unlink(missing_ok=True)
        write_bytes(self.path / "_SUCCESS", b"")
        return manifest

    def manifest(self) -> Manifest:
        """Read the manifest of a complete artifact; errors are those of `read_manifest`."""
        return read_manifest(self.path)

    def __truediv__(self, name: str) -> Place:
        return self.path / name

    def __repr__(self) -> str:
        return f"Artifact({self.path.name}, complete={self.complete})"


def read_manifest(folder: Place) -> Manifest:
    """Read the manifest in an artifact's folder. Raises InputError if it is gone, cut or not ours."""
    path = folder / "manifest.json"
    content = read_json(path)
    try:
        manifest = Manifest(**content)
        if manifest.schema_version != SCHEMA_VERSION:
            raise TypeError(f"it has schema {manifest.schema_version}, not {SCHEMA_VERSION}")
        return manifest
    except TypeError as error:
        reason = str(error).replace("Manifest.__init__()", "it")
        raise InputError(
            f"{path}: not a manifest of tis_ray {__version__} ({reason}); remove {folder} and run the "
            "study again, or use the version that wrote it"
        ) from None
