from __future__ import annotations

import json
import time

import pytest

from tis_ray.store import Artifact, Clock, clock


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(clock, "OFTEN", 0.05)


def marked_seconds(folder) -> float:
    return json.loads((folder / Clock.FILE).read_text())["seconds"]


def test_starts_that_were_killed_count_up_to_their_last_marks(tmp_path):
    total = 0.0
    for _ in range(3):
        start = Clock(tmp_path)
        assert total <= start.seconds < total + 0.2  # it begins where the last mark was
        with start.marked():
            time.sleep(0.5)
        marked, total = total, marked_seconds(tmp_path)
        assert marked + 0.1 < total <= start.seconds
        time.sleep(0.5)  # after the last mark: lost


def test_marks_are_made_while_the_block_runs_and_not_after(tmp_path):
    start = Clock(tmp_path)
    assert not (tmp_path / Clock.FILE).exists()

    def fails() -> None:
        with start.marked():
            time.sleep(0.2)
            before = marked_seconds(tmp_path)
            time.sleep(0.2)
            assert marked_seconds(tmp_path) > before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    after = marked_seconds(tmp_path)
    time.sleep(0.2)
    assert marked_seconds(tmp_path) == after


def test_a_complete_artifact_has_no_clock_left(tmp_path):
    artifact = Artifact(tmp_path, "stage", {})
    start = artifact.clock()
    with start.marked():
        time.sleep(0.2)
    assert (artifact / Clock.FILE).exists()
    artifact.commit(seconds=start.seconds)
    assert sorted(path.name for path in artifact.path.iterdir()) == ["_SUCCESS", "manifest.json"]
    assert artifact.manifest().seconds > 0.2
