from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tis_ray.store import Artifact, Clock


def leave(file: Path, after: float, began: float) -> None:
    """Write a file so many seconds after a start began."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("work")
    os.utime(file, (began + after, began + after))


def began(folder: Path) -> float:
    return json.loads((folder / Clock.FILE).read_text())["began"]


def about(seconds: float):
    return pytest.approx(seconds, abs=5)


def test_starts_that_did_not_end_count_up_to_the_last_file_they_left(tmp_path):
    folder = tmp_path / "made"
    assert Clock(folder).seconds == about(0)
    leave(folder / "shards" / "a", 100, began(folder))
    leave(folder / "b", 40, began(folder))
    second = Clock(folder)
    assert second.seconds == about(100)

    # The second leaves one file more; the older ones are not counted again.
    for name in ("shards/a", "b"):
        leave(folder / name, -50, began(folder))
    leave(folder / "c", 30, began(folder))
    assert Clock(folder).seconds == about(130)


def test_a_start_that_left_nothing_adds_nothing(tmp_path):
    leave(tmp_path / "before", -1000, 10_000.0)
    Clock(tmp_path)
    assert Clock(tmp_path).seconds == about(0)
    assert Clock(tmp_path).seconds == about(0)


def test_files_in_other_folders_count_too(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    Clock(tmp_path / "made", store)
    leave(store / "shard", 70, began(tmp_path / "made"))
    assert Clock(tmp_path / "made", store).seconds == about(70)


def test_a_complete_artifact_has_no_clock_left(tmp_path):
    artifact = Artifact(tmp_path, "stage", {})
    clock = artifact.clock()
    assert clock.seconds >= 0
    artifact.commit(seconds=clock.seconds)
    assert sorted(path.name for path in artifact.path.iterdir()) == ["_SUCCESS", "manifest.json"]
