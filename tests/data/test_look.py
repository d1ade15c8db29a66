"""A look at a source takes rows from each file, and names them as a whole reading does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tis_ray.data import look, read_rows
from tis_ray.data.look import look_at
from tis_ray.errors import InputError
from tis_ray.settings import FileSource
from tis_ray.settings.data import ListSource


def write(path: Path, count: int, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"{path.stem} {n}", "completion": "x", **more} for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name, count in (("a", 50), ("b", 3), ("c", 50)):
        write(tmp_path / "pool" / f"{name}.jsonl", count, id=None)
    return tmp_path / "pool"


def files_of(rows: Any) -> list[str]:
    return [row["file"] for row in rows]


def test_files_take_turns_and_rows_stand_in_order(pool: Path) -> None:
    found = look_at(FileSource(path=str(pool)), "pool", 13)
    assert files_of(found.rows) == ["a.jsonl"] * 5 + ["b.jsonl"] * 3 + ["c.jsonl"] * 5
    assert (found.opened, found.files, found.whole) == (3, 3, False)


def test_all_rows_are_those_of_a_whole_reading_without_its_sample(pool: Path) -> None:
    source = FileSource(path=str(pool))
    sampled = FileSource(path=str(pool), sample=5)
    for most in (None, 1000):
        found = look_at(sampled, "pool", most)
        assert [*found.rows] == [*read_rows(source)]
        assert found.whole


def test_each_source_of_a_list_has_its_turn(pool: Path) -> None:
    sources = [{"path": str(pool / "c.jsonl"), "source": "see"}, {"path": str(pool / "a.jsonl")}]
    rows = [*look_at(ListSource(sources=sources), "pool", 4).rows]
    assert [(row["file"], row["source"]) for row in rows if isinstance(row, dict)] == [
        ("c.jsonl", "see"), ("c.jsonl", "see"), ("a.jsonl", "a"), ("a.jsonl", "a")
    ]  # fmt: skip


def test_what_is_not_needed_is_not_read(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pool / "d.json").write_text('[{"prompt": "q", "completion": "a"}, {"broken')
    assert len([*look_at(FileSource(path=str(pool)), "pool", 4).rows]) == 4
    monkeypatch.setattr(look, "MOST_FILES", 2)
    found = look_at(FileSource(path=str(pool)), "pool", 4)
    assert {*files_of(found.rows)} == {"a.jsonl", "c.jsonl"}
    assert (found.opened, found.files, found.whole) == (2, 4, False)


def test_long_rows_are_fewer(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "MOST_CHARACTERS", 400)
    assert 2 < len([*look_at(FileSource(path=str(pool)), "pool", 1000).rows]) < 20


def test_a_column_that_no_row_has_is_said_once_all_was_read(pool: Path) -> None:
    source = FileSource(path=str(pool), columns={"id": "uid"})
    for most in (None, 1000):
        with pytest.raises(InputError, match="no row has 'uid'"):
            [*look_at(source, "pool", most).rows]
    assert len([*look_at(source, "pool", 4).rows]) == 4
