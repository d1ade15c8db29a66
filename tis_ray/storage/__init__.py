"""Where files are: on a disk, or in a bucket by its URI. One type of place, and a copy on this machine where one is needed."""

from tis_ray.storage.local_copy import local_file, local_folder
from tis_ray.storage.place import (
    AnyPlace,
    Place,
    all_files,
    file_sizes,
    folder_size,
    is_remote,
    listed,
    listed_files,
    location,
    pace,
    place,
    relative_to,
    remove_folder,
)
from tis_ray.storage.pointer import followed, point, pointers, remove_pointer
from tis_ray.storage.reading import (
    arrow_source,
    content_digest,
    has_file,
    open_parquet,
    whole_file,
)

__all__ = [
    "AnyPlace",
    "Place",
    "all_files",
    "arrow_source",
    "content_digest",
    "file_sizes",
    "folder_size",
    "followed",
    "has_file",
    "is_remote",
    "listed",
    "listed_files",
    "local_file",
    "local_folder",
    "location",
    "open_parquet",
    "pace",
    "place",
    "point",
    "pointers",
    "relative_to",
    "remove_folder",
    "remove_pointer",
    "whole_file",
]
