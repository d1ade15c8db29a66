"""Data sets as folders that `datasets.load_from_disk` reads, with a card."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa

from tis_ray.errors import InputError
from tis_ray.storage import Place, remove_folder
from tis_ray.store.atomic import write_text, written_folder

CARD = "README.md"
_STATE = "state.json"


def save_dataset(table: pa.Table, folder: Place, card: str) -> None:
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
        raise InputError("--form hf: needs the `datasets` package; pip install datasets") from None
    if folder.exists() and not (folder / _STATE).exists() and any(folder.iterdir()):
        raise InputError(f"--to: {folder} holds something else than a data set; give a new folder")
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        if not isinstance(folder, Path):
            remove_folder(folder)
            with written_folder(folder) as here:
                _save(Dataset(table), here, card)
            return
        folder = folder.absolute()
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            _save(Dataset(table), temporary, card)
            remove_folder(folder)
            temporary.replace(folder)
        finally:
            remove_folder(temporary)
    finally:
        if shown:
            enable_progress_bars()


def _save(dataset: Any, folder: Path, card: str) -> None:
    dataset.save_to_disk(str(folder))
    write_text(folder / CARD, card)
