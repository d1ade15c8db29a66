"""What stages leave on disk: fingerprints, atomic files, artifacts with a manifest."""

from tis_ray.store.artifact import Artifact, Manifest
from tis_ray.store.atomic import atomic_path, write_bytes, write_json, write_npy, write_parquet
from tis_ray.store.clock import Clock
from tis_ray.store.fingerprint import canonical_json, fingerprint, folder_digest

__all__ = [
    "Artifact",
    "Clock",
    "Manifest",
    "atomic_path",
    "canonical_json",
    "fingerprint",
    "folder_digest",
    "write_bytes",
    "write_json",
    "write_npy",
    "write_parquet",
]
