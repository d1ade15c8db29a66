"""Rows in a bucket are the rows of the same files on a disk: every kind, in folders, by patterns, in lists."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tests.buckets import BUCKET, s3_server
from tis_ray.data import builtin, read_rows
from tis_ray.data.sources import content_fingerprint
from tis_ray.errors import InputError
from tis_ray.settings import FileSource, ListSource
from tis_ray.storage import place

ROWS = [row for _, row in zip(range(12), builtin.iter_pool_rows(12, seed=1), strict=False)]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Files of every kind in a folder of this machine, which a bucket has too, under `pool`."""
    folder = tmp_path_factory.mktemp("pool")
    (folder / "lang=de").mkdir()
    (folder / "_hidden").mkdir()
    lines = [json.dumps(row) + "\n" for row in ROWS]
    (folder / "a.jsonl").write_text("".join(lines[:2]))
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.writelines(lines[2:4])
    (folder / "c.json").write_text(json.dumps(ROWS[4:6]))
    pq.write_table(pa.Table.from_pylist(ROWS[6:8]), folder / "d.parquet")
    pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS[8:10]), str(folder / "e.arrow"))
    (folder / "lang=de" / "f.jsonl").write_text("".join(lines[10:]))
    (folder / "_hidden" / "g.jsonl").write_text("not json")
    (folder / "README.md").write_text("nothing")
    with s3_server(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIS_RAY_CACHE", str(tmp_path_factory.mktemp("copies")))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            to = place(f"s3://{BUCKET}/pool") / path.relative_to(folder).as_posix()
            to.write_bytes(path.read_bytes())
        yield folder


def rows(path: str, **settings: Any) -> list[Any]:
    return [*read_rows(FileSource(path=path, **settings))]


@pytest.mark.parametrize(
    "name", ["", "/a.jsonl", "/*.jsonl*", "/**/*.jsonl", "/lang=de", "/d.parquet"]
)
def test_the_rows_are_those_of_a_disk(bucket: Path, name: str) -> None:
    there, here = rows(f"s3://{BUCKET}/pool{name}"), rows(f"{bucket}{name}")
    assert there == here
    assert there


def test_the_same_files_are_the_same_source(bucket: Path) -> None:
    there = FileSource(path=f"s3://{BUCKET}/pool")
    assert content_fingerprint(there) == content_fingerprint(FileSource(path=str(bucket)))


def test_a_list_of_places_on_disks_and_in_buckets(bucket: Path) -> None:
    parts = [f"s3://{BUCKET}/pool/a.jsonl", str(bucket / "c.json")]
    mixed = ListSource(sources=[FileSource(path=path) for path in parts])
    names = [row["file"] for row in read_rows(mixed)]
    assert names == [parts[0]] * 2 + [parts[1]] * 2
    one = [f"s3://{BUCKET}/pool/a.jsonl", f"s3://{BUCKET}/pool/lang=de/f.jsonl"]
    within = [
        row["file"] for row in read_rows(ListSource(sources=[FileSource(path=p) for p in one]))
    ]
    assert within == ["a.jsonl"] * 2 + ["lang=de/f.jsonl"] * 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"s3://{BUCKET}/nothing", "no such file or folder"),
        (f"s3://{BUCKET}/pool/*.tar", "no file matches"),
        (f"s3://{BUCKET}/pool/README.md", "unknown file type"),
        ("s3://no-such-bucket/pool", "no such file or folder"),
    ],
)
def test_what_is_not_there_is_one_line(bucket: Path, path: str, message: str) -> None:
    del bucket
    with pytest.raises(InputError, match=message):
        rows(path)
