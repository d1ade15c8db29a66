"""Data sets as folders that `datasets.load_from_disk` reads, with a card."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pyarrow as pa

from tis_ray.errors import InputError
from tis_ray.store.atomic import write_text

CARD = "README.md"
_STATE = "state.json"


def save_dataset(table: pa.Table, folder: Path, card: str) -> None:
    """Write a table and its card as such a folder, which appears whole; one that was there is replaced.

    Raises InputError without the `datasets` package, and where something else is in the folder.
    """
    try:
        from datasets import Dataset
        from datasets.utils import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )
    except ImportError:
        raise InputError(
            "--form hf: needs the `datasets` package; pip install 'tis_ray[hub]'"
        ) from None
    if folder.exists() and not (folder / _STATE).exists() and any(folder.iterdir()):
        raise InputError(f"--to: {folder} holds something else than a data set; give a new folder")
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        Dataset(table).save_to_disk(str(temporary))
        write_text(temporary / CARD, card)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if shown:
            enable_progress_bars()
