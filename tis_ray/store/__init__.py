"""The room that touches files: artifacts, features, scores and rows on disk, written atomically."""

from tis_ray.store.artifact import Artifact, Manifest, read_manifest
from tis_ray.store.atomic import (
    atomic_path,
    write_arrow,
    write_bytes,
    write_csv,
    write_json,
    write_lines,
    write_new,
    write_npy,
    write_parquet,
    write_text,
    written_folder,
)
from tis_ray.store.clock import Clock
from tis_ray.store.files import (
    TableRow,
    append_line,
    count_rows,
    find_json,
    read_ids,
    read_json,
    read_lines,
    read_npy,
    read_parquet,
    read_tables,
    read_text,
)
from tis_ray.store.fingerprint import canonical_json, file_digest, fingerprint, folder_digest

__all__ = [
    "Artifact",
    "Clock",
    "Manifest",
    "TableRow",
    "append_line",
    "atomic_path",
    "canonical_json",
    "count_rows",
    "file_digest",
    "find_json",
    "fingerprint",
    "folder_digest",
    "read_ids",
    "read_json",
    "read_lines",
    "read_manifest",
    "read_npy",
    "read_parquet",
    "read_tables",
    "read_text",
    "write_arrow",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_lines",
    "write_new",
    "write_npy",
    "write_parquet",
    "write_text",
    "written_folder",
]
