"""What is done most often with a bucket takes one request, and no listing: each is paid for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.buckets import BUCKET, requests_in, s3_server
from tis_ray.storage import Place, file_sizes, followed, listed, pace, place, point
from tis_ray.store import (
    Artifact,
    find_json,
    read_json,
    read_parquet,
    read_text,
    write_json,
    write_parquet,
)

Counted = Callable[[Callable[[], Any]], list[tuple[str, str]]]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    """Return what tells the requests that a piece of work makes."""
    log = tmp_path_factory.mktemp("server") / "requests.log"
    with s3_server(log=log):

        def requests(work: Callable[[], Any]) -> list[tuple[str, str]]:
            before = len(requests_in(log))
            work()
            time.sleep(0.2)  # the server writes its line after the answer
            return requests_in(log)[before:]

        yield requests


@pytest.fixture
def folder(counted: Counted, tmp_path: Path) -> Place:
    return place(f"s3://{BUCKET}/{tmp_path.name}")


def test_whether_an_artifact_is_complete_is_one_request_either_way(
    counted: Counted, folder: Place
) -> None:
    artifact = Artifact(folder, "stage", {})
    marker = artifact.path.path.partition("/")[2] + "/_SUCCESS"
    assert counted(lambda: artifact.complete) == [("GET", marker)]
    assert not artifact.complete
    artifact.commit()
    assert counted(lambda: artifact.complete) == [("GET", marker)]
    assert artifact.complete


def test_a_small_file_is_read_by_one_request_there_or_not(counted: Counted, folder: Place) -> None:
    file = folder / "a.json"
    assert [kind for kind, _ in counted(lambda: find_json(file))] == ["GET"]
    assert find_json(file) is None
    assert [kind for kind, _ in counted(lambda: write_json(file, {"x": 1}))] == ["PUT"]
    for read in (find_json, read_json, read_text):
        assert [kind for kind, _ in counted(lambda read=read: read(file))] == ["GET"]
    assert find_json(file) == {"x": 1}


def test_sizes_of_many_files_are_one_listing(counted: Counted, folder: Place) -> None:
    for n in range(30):
        (folder / f"part-{n:02d}.jsonl").write_text("x" * n)
    files = [folder / f"part-{n:02d}.jsonl" for n in range(30)]
    sizes: list[int] = []
    made = counted(lambda: sizes.extend(file_sizes(files)))
    assert [kind for kind, _ in made] == ["LIST"]
    assert sizes == [*range(30)]
    assert [*file_sizes(files[:3])] == [0, 1, 2]
    with pytest.raises(FileNotFoundError, match="part-99"):
        [*file_sizes([*files, folder / "part-99.jsonl"])]


def test_a_whole_table_is_one_request_and_a_column_fetches_less(
    counted: Counted, folder: Place
) -> None:
    file = folder / "t.parquet"
    table = pa.table({"x": list(range(1000)), "y": [f"{n}" for n in range(1000)]})
    write_parquet(file, table)
    assert [kind for kind, _ in counted(lambda: read_parquet(file))] == ["GET"]
    assert read_parquet(file) == table
    assert read_parquet(file, ["y"]) == table.select(["y"])


def test_a_pointer_and_what_is_none_are_followed_by_one_request(
    counted: Counted, folder: Place
) -> None:
    point(folder / "name", folder / "artifact")
    for name, to in (("name", "artifact"), ("artifact", "artifact")):
        kinds = [kind for kind, _ in counted(lambda name=name: followed(folder / name))]
        assert kinds == ["GET"]
        assert followed(folder / name) == folder / to


def test_the_shards_of_an_artifact_are_one_listing(counted: Counted, folder: Place) -> None:
    for name in ("x-00000.json", "x-00001.json", "y-00000.json", "x-00002.npy", "x/x-3.json"):
        write_json(folder / name, {})
    names: list[str] = []

    def look(where: Place) -> None:
        names[:] = [each.name for each in listed(where, "x-*.json")]

    assert [kind for kind, _ in counted(lambda: look(folder))] == ["LIST"]
    assert names == ["x-00000.json", "x-00001.json"]
    assert [kind for kind, _ in counted(lambda: look(folder / "none"))] == ["LIST"]
    assert names == []


def test_looks_that_take_many_requests_are_seldom() -> None:
    assert pace("s3://bucket/x", 0.5) == 5
    assert pace("s3://bucket/x", 0.5, requests=100) == 50
    assert pace("/disk", 0.5, requests=100) == 0.5
