"""What MLflow can store: keys, texts and numbers within its limits, and the URI of a store."""

from __future__ import annotations

import json
import math
import posixpath
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from tis_ray.errors import InputError

KEY_LENGTH = 250


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


def locations(uri: str | None, artifact_root: str | Path | None) -> tuple[str, str | None]:
    """Return the absolute store URI and the artifact location (None: the server decides)."""
    root = Path(artifact_root).absolute() if artifact_root is not None else None
    if uri is None:
        folder = root.parent if root else Path.cwd()
        uri = f"sqlite:///{folder / 'mlflow.db'}"
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).absolute()
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"tracking.uri {uri}: cannot make its folder ({error}); choose another"
            ) from None
        return f"sqlite:///{database}", (root or database.parent / "mlruns").as_uri()
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/"), root.as_uri() if root else None
    raise InputError(f"tracking.uri: found {uri!r}; give an http(s):// server or a sqlite:/// path")


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
