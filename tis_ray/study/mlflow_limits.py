"""What MLflow can store: keys, texts and numbers within its limits, and the URI of a store."""

from __future__ import annotations

import json
import math
import os
import posixpath
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from tis_ray.errors import InputError
from tis_ray.storage import AnyPlace, is_remote, place

KEY_LENGTH = 250
SQLITE = "sqlite:///"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
HINT = (
    "give a server (http://HOST:5000) or a database (sqlite:///FILE, postgresql://USER@HOST/NAME), or set"
    " tracking.enabled to false"
)
"""What to do where a store cannot be used."""


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested mappings as one level with dotted keys; lists stay values."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def store_uri(uri: str | None, runs: AnyPlace) -> str:
    """Return the store of a study: the one given, else MLFLOW_TRACKING_URI, else a file beside its runs."""
    if uri is not None:
        return uri
    return os.environ.get("MLFLOW_TRACKING_URI") or default_uri(runs)


def default_uri(runs: AnyPlace) -> str:
    """Return the database beside the runs. Raises InputError where these are in a bucket."""
    if is_remote(runs):
        raise InputError(
            f"tracking.uri is missing: no database can be in a bucket, where the runs are ({runs}); give the "
            "address of a server, or set tracking.enabled: false"
        )
    return f"{SQLITE}{place(runs).absolute() / 'mlflow.db'}"


def is_database(uri: str) -> bool:
    """Whether a store is a database that this process opens itself."""
    return uri.partition(":")[0].partition("+")[0] in DATABASES


def locations(uri: str | None, artifact_root: AnyPlace | None) -> tuple[str, str | None]:
    """Return the absolute store URI and the artifact location (None: the server decides)."""
    root = place(artifact_root).absolute() if artifact_root is not None else None
    if uri is None:
        uri = default_uri(root.parent if root else Path.cwd())
    if not uri.strip():
        raise InputError(f"tracking.uri is empty; {HINT}")
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE)).absolute()
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"tracking.uri {uri}: cannot make its folder ({error}); choose another"
            ) from None
        return f"{SQLITE}{database}", (root or database.parent / "mlruns").as_uri()
    if is_database(uri):
        return uri, (root or Path.cwd() / "mlruns").as_uri()
    return uri.rstrip("/"), None


def storable_key(name: str) -> str:
    """Return a key that MLflow accepts: its characters, and no path that could leave a folder."""
    clean = re.sub(r"[^\w\-. :/]", "_", name).strip("/")
    return posixpath.normpath(re.sub(r"\.\.+", ".", clean) or "_")[:KEY_LENGTH]


def storable_number(value: float) -> float:
    """Return what a database gives back: infinities become the largest floats, as MLflow does."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def storable_text(value: object) -> str:
    """Return strings as they are and everything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
