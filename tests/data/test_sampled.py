"""A sample stands for its files, and the number of their rows is right or has an honest interval."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tis_ray.data.files import counted
from tis_ray.data.files.counted import Count
from tis_ray.data.sampled import SideSample, sample_side
from tis_ray.settings import BuiltinSource, FileSource, ListSource


def rows(count: int, length: Any = lambda n: 3) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"Row {n}: " + "word " * length(n)},
                *([{"role": "assistant", "content": "yes"}] if n % 10 else []),
            ]
        }
        for n in range(count)
    ]


def lines(found: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in found)


def sampled(path: Path, most: int = 100, **more: Any) -> SideSample:
    return sample_side(FileSource(kind="file", path=str(path), **more), "pool", most)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "parquet", "arrow"])
def test_small_files_of_any_kind_are_counted(tmp_path: Path, kind: str) -> None:
    path, found = tmp_path / f"pool.{kind}", rows(500)
    match kind:
        case "jsonl":
            path.write_text(lines(found).rstrip("\n"))  # the last line has no end
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines(found).encode()))
        case "json":
            path.write_text(json.dumps(found, indent=1))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(found), path, row_group_size=100)
        case _:
            with pa.OSFile(str(path), "wb") as file:
                table = pa.Table.from_pylist(found)
                with pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table, max_chunksize=100)
    sample = sampled(path)
    assert sample.count == Count.of(500)
    assert len(sample.rows) == 100
    assert set(sample.refused) == {"no_assistant_turn"}
    assert sample.usable_rows.low < 450 < sample.usable_rows.high


@pytest.mark.parametrize("packed", [False, True])
def test_lines_of_large_files_are_estimated(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted, "SMALL", 1000)
    monkeypatch.setattr(counted, "_PART", 4096)
    monkeypatch.setattr(counted, "_HEAD", 1 << 22)
    rng = np.random.default_rng(0)
    found = rows(20_000)
    for row in found:
        row["messages"][0]["content"] += rng.bytes(int(rng.integers(0, 300))).hex()
    content = lines(found).encode()
    path = tmp_path / ("pool.jsonl.gz" if packed else "pool.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    count = sampled(path).count
    assert not count.exact
    assert count.low < 20_000 < count.high
    assert count.rows == pytest.approx(20_000, rel=0.05)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("small", [True, False])
def test_empty_lines_are_no_records(
    tmp_path: Path, packed: bool, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr(counted, "SMALL", 1000)
        monkeypatch.setattr(counted, "_PART", 4096)
        monkeypatch.setattr(counted, "_HEAD", 1 << 22)
    found = rows(5_000)
    content = "\n" + lines(found).replace("\n", "\n\r\n  \n\n") + "\n \n"
    path = tmp_path / ("pool.jsonl.gz" if packed else "pool.jsonl")
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    count = sampled(path).count
    assert count.rows == pytest.approx(5_000, rel=0.05)
    if small and not packed:
        assert count == Count.of(5_000)


def test_texts_of_several_lines_in_csv_are_one_record(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    text = '"{0}\n\n{0}","a\n"\n'
    path.write_text("prompt,response\n" + "".join(text.format(n) for n in range(40)))
    assert sampled(path).count == Count.of(40)


def test_a_large_array_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "_HEAD", 1 << 19)
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(rows(10_000, lambda n: n % 40), indent=2))
    count = sampled(path).count
    assert not count.exact
    assert count.rows == pytest.approx(10_000, rel=0.05)


def test_a_sorted_file_is_sampled_all_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "TINY", 1000)
    path = tmp_path / "pool.jsonl"
    path.write_text(lines(rows(5000, lambda n: n // 50)))
    numbers = [int(row["messages"][0]["content"].split()[1][:-1]) for row in sampled(path).usable]
    assert numbers == sorted(numbers)
    assert min(numbers) < 1000
    assert max(numbers) > 4900
    table = tmp_path / "pool.parquet"
    pq.write_table(pa.Table.from_pylist(rows(5000)), table, row_group_size=500)
    numbers = [int(row["messages"][0]["content"].split()[1][:-1]) for row in sampled(table).usable]
    assert max(numbers) >= 4500


def test_rows_that_are_alike_are_not_all_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million of them may lie in a small file; only what the sample needs is decoded."""
    path = tmp_path / "pool.parquet"
    thousand = pa.Table.from_pylist(rows(1000))
    with pq.ParquetWriter(path, thousand.schema) as file:
        for _ in range(20):
            file.write_table(pa.concat_tables([thousand] * 10))
    assert path.stat().st_size < counted.TINY
    monkeypatch.setattr(counted, "_records", lambda *_: pytest.fail("read whole"))
    sample = sampled(path)
    assert sample.count == Count.of(200_000)
    assert len(sample.rows) == 100


def test_what_is_held_out_is_counted_on_its_own_side(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(20)))
    source = FileSource(path=str(tmp_path / "q.jsonl"), holdout=0.3)
    found = {side: sample_side(source, side, 200) for side in ("query", "test")}
    assert found["test"].usable_rows == Count.of(5)  # of 18 that are usable
    assert found["query"].usable_rows == Count.of(13)
    ids = [{row["id"] for row in each.usable} for each in found.values()]
    assert not ids[0] & ids[1]


def test_a_source_with_a_sample_has_no_more_rows_than_that(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text(lines(rows(500)))
    assert sampled(path, sample=50).usable_rows == Count.of(50)
    both = ListSource(
        kind="list",
        sources=[
            FileSource(kind="file", path=str(path)),
            BuiltinSource(kind="builtin", rows=1_000_000_000),
        ],
        sample=300,
    )
    found = sample_side(both, "pool", 100)
    assert found.count == Count.of(1_000_000_500)
    assert found.usable_rows == Count.of(300)
