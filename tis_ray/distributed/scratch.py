"""Where Ray Train and Ray Tune keep their own files: beside the artifacts, on a disk or in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tis_ray.storage import Place


def ray_storage(folder: Place) -> dict[str, Any]:
    """Return the arguments of a `RunConfig` that let Ray keep its files in a folder."""
    if isinstance(folder, Path):
        return {"storage_path": str(folder)}
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return {
        "storage_path": folder.path,
        "storage_filesystem": PyFileSystem(FSSpecHandler(folder.fs)),
    }
