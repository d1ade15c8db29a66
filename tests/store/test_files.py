"""What is read back is what was written; a file that is gone or was changed says so in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tis_ray.errors import InputError
from tis_ray.store import (
    append_line,
    find_json,
    footer_of,
    read_json,
    read_lines,
    read_npy,
    read_parquet,
    read_tables,
    read_text,
    write_json,
    write_npy,
    write_parquet,
    write_text,
)

READERS = [(read_json, "a.json"), (read_npy, "a.npy"), (read_parquet, "a.parquet")]


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, None]})
    write_text(tmp_path / "a.txt", "é\nb\n")
    assert read_json(tmp_path / "a.json") == {"é": [1, None]}
    assert read_text(tmp_path / "a.txt") == "é\nb\n"
    assert read_lines(tmp_path / "a.txt") == ["é", "b"]


def test_an_array_is_mapped_and_not_read_where_that_is_asked_for(tmp_path: Path) -> None:
    scores_MN = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_npy(tmp_path / "a.npy", scores_MN)
    assert not isinstance(read_npy(tmp_path / "a.npy"), np.memmap)
    mapped = read_npy(tmp_path / "a.npy", mapped=True)
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, scores_MN)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"a\.npy: cannot be read"):
        read_npy(tmp_path / "a.npy")


def test_tables_are_read_by_the_order_of_their_names(tmp_path: Path) -> None:
    for shard in (1, 0):
        table = pa.table({"row": [shard, shard + 10], "id": ["a", "b"]})
        write_parquet(tmp_path / f"rows-{shard:05d}.parquet", table)
    found = read_tables(tmp_path, "rows-*.parquet", ["row"])
    assert found.to_pydict() == {"row": [0, 10, 1, 11]}


def test_a_footer_tells_rows_and_what_was_noted(tmp_path: Path) -> None:
    table = pa.table({"row": [1, 2, 3]})
    write_parquet(tmp_path / "plain.parquet", table)
    write_parquet(tmp_path / "noted.parquet", table.replace_schema_metadata({"counts": "x"}))
    assert footer_of(tmp_path / "plain.parquet")[0] == 3
    assert b"counts" not in footer_of(tmp_path / "plain.parquet")[1]
    assert footer_of(tmp_path / "noted.parquet")[1][b"counts"] == b"x"


@pytest.mark.parametrize(("read", "name"), READERS)
def test_a_file_that_is_gone_is_named_with_what_to_do(read, name, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path / name)
    assert str(error.value) == (
        f"{tmp_path / name}: no such file; remove {tmp_path} and run the study again to make it anew"
    )


@pytest.mark.parametrize(("read", "name"), READERS)
@pytest.mark.parametrize("content", [b"", b"\x00\xff{[PAR1"])
def test_a_file_that_was_changed_is_named(read, name, content, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(.*; remove ") as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("read", "name"), READERS)
def test_a_file_that_was_cut_is_named(read, name, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", list(range(100)))
    write_npy(tmp_path / "a.npy", np.arange(1000))
    write_parquet(tmp_path / "a.parquet", pa.table({"row": list(range(1000))}))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        read(tmp_path / name)


def test_what_is_not_there_yet_is_nothing(tmp_path: Path) -> None:
    assert find_json(tmp_path / "a.json") is None
    assert read_lines(tmp_path / "a.txt") == []


def test_lines_are_added_to_a_file_that_is_made_first(tmp_path: Path) -> None:
    for line in ("a", "é"):
        append_line(tmp_path / "new" / "events.jsonl", line)
    assert (tmp_path / "new" / "events.jsonl").read_bytes() == "a\né\n".encode()
