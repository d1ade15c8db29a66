"""Every kind of storage does the same: one suite for a disk, a bucket of a real S3 server, and fsspec's memory."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.buckets import BUCKET, s3_server
from tis_ray.errors import InputError
from tis_ray.storage import (
    Place,
    all_files,
    content_digest,
    folder_size,
    followed,
    is_remote,
    listed,
    local_file,
    local_folder,
    location,
    open_parquet,
    place,
    point,
    pointers,
    remove_folder,
    remove_pointer,
)
from tis_ray.storage.local_copy import IN_USE, cache_folder
from tis_ray.store import (
    Artifact,
    append_line,
    atomic_path,
    end_of,
    file_digest,
    folder_digest,
    read_json,
    read_lines,
    read_npy,
    read_parquet,
    read_tables,
    write_bytes,
    write_json,
    write_new,
    write_npy,
    write_parquet,
    write_text,
    written_folder,
)
from tis_ray.store.feature_store import DamagedShardError, FeatureShard, FeatureStore

KINDS = ("disk", "bucket", "memory")


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture(autouse=True)
def _own_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIS_RAY_CACHE", str(tmp_path / "copies"))


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty folder of each kind."""
    name = tmp_path.name
    match request.param:
        case "disk":
            return place(tmp_path / "root")
        case "bucket":
            request.getfixturevalue("server")
            return place(f"s3://{BUCKET}/{name}")
    pytest.importorskip("upath")
    return place(f"memory://test/{name}")


def test_what_was_written_is_read(root: Place) -> None:
    write_text(root / "a.txt", "ü\n")
    write_json(root / "deep" / "b.json", {"x": 1})
    write_npy(root / "c.npy", np.arange(6).reshape(2, 3))
    write_parquet(root / "d-1.parquet", pa.table({"x": [1, 2], "y": ["a", "b"]}))
    write_parquet(root / "d-2.parquet", pa.table({"x": [3], "y": ["c"]}))
    assert (root / "a.txt").read_text(encoding="utf-8") == "ü\n"
    assert read_json(root / "deep" / "b.json") == {"x": 1}
    assert read_npy(root / "c.npy", mapped=True).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read_parquet(root / "d-1.parquet", ["y"]).to_pydict() == {"y": ["a", "b"]}
    assert read_tables(root, "d-*.parquet", ["x"])["x"].to_pylist() == [1, 2, 3]
    assert [each.name for each in listed(root, "d-*.parquet")] == ["d-1.parquet", "d-2.parquet"]
    assert [each.name for each in all_files(root)] == [
        "a.txt",
        "c.npy",
        "d-1.parquet",
        "d-2.parquet",
        "b.json",
    ]
    assert folder_size(root / "deep") == len(b'{\n  "x": 1\n}\n')
    assert (root / "deep").is_dir()
    assert not (root / "nothing").exists()


def test_what_is_missing_is_an_error_of_one_line(root: Place) -> None:
    for read in (read_json, read_npy, read_parquet):
        with pytest.raises(InputError, match="no such file"):
            read(root / "nothing")
    write_text(root / "cut.parquet", "PAR1")
    with pytest.raises(InputError, match=r"cannot be read"):
        read_parquet(root / "cut.parquet")


def test_a_place_goes_to_other_processes(root: Place) -> None:
    write_text(root / "x", "1")
    again = pickle.loads(pickle.dumps(root))
    assert again == root
    assert (again / "x").read_text() == "1"
    assert place(location(root)) == root.absolute()


def test_what_raises_while_it_writes_leaves_nothing(root: Place) -> None:
    write_text(root / "kept", "before")
    with pytest.raises(ZeroDivisionError):
        _half_written(root / "kept")
    assert (root / "kept").read_text() == "before"
    assert [each.name for each in all_files(root)] == ["kept"]


def _half_written(file: Place) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError


def test_of_two_who_commit_one_does(root: Place) -> None:
    assert write_new(root / "manifest.json", b"first")
    assert not write_new(root / "manifest.json", b"second")
    assert (root / "manifest.json").read_bytes() == b"first"


def test_of_many_who_commit_at_once_one_does(root: Place) -> None:
    if not isinstance(root, Path) and root.protocol == "memory":
        pytest.skip("memory is a process's own")
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        won = pool.starmap(write_new, [(root / "one", str(n).encode()) for n in range(8)])
    assert won.count(True) == 1
    assert (root / "one").read_bytes() == str(won.index(True)).encode()


def test_an_artifact_is_complete_when_it_is_committed(root: Place) -> None:
    artifact = Artifact(root, "stage", {"x": 1})
    write_text(artifact / "data", "1")
    assert not artifact.complete
    artifact.commit(rows=1)
    again = Artifact(root, "stage", {"x": 1})
    assert again.complete
    assert again.manifest().rows == 1
    assert again.commit(rows=2).rows == 1  # that of the driver that was faster
    assert [each.name for each in listed(again.path, "*")] == ["_SUCCESS", "data", "manifest.json"]


def test_lines_are_added(root: Place) -> None:
    for number in range(3):
        append_line(root / "log", str(number))
    with end_of(root / "log") as end:
        end.write(b"3\n4\n")
    assert read_lines(root / "log") == ["0", "1", "2", "3", "4"]


def test_folders_are_written_copied_and_removed(root: Place) -> None:
    with written_folder(root / "model") as here:
        (here / "weights").write_bytes(b"12345")
        (here / "more").mkdir()
        (here / "more" / "config").write_text("{}")
    copy = local_folder(root / "model")
    assert copy.name == "model"
    assert (copy / "weights").read_bytes() == b"12345"
    assert (copy / "more" / "config").read_text() == "{}"
    assert local_folder(root / "model") == copy
    assert folder_digest(root / "model") == folder_digest(copy)
    remove_folder(root / "model")
    assert not (root / "model").exists()
    remove_folder(root / "model")
    with pytest.raises(InputError, match="no such file"):
        read_json(root / "model" / "config")


def test_pointers_lead_elsewhere(root: Place, tmp_path: Path) -> None:
    for to in (root / "made", tmp_path / "made"):
        write_text(to / "x", location(to))
        point(root / "names" / "name", to)
        assert [each.name for each in pointers(root / "names")] == ["name"]
        assert (followed(root / "names" / "name") / "x").read_text() == location(to)
        assert followed(to) == to
    remove_pointer(root / "names" / "name")
    assert pointers(root / "names") == [] == pointers(root / "nothing")
    assert (root / "made" / "x").exists()


def test_a_changed_file_is_fetched_anew(root: Place) -> None:
    write_text(root / "x.txt", "one")
    assert local_file(root / "x.txt").read_text() == "one"
    digest, own = file_digest(root / "x.txt"), content_digest(root / "x.txt")
    write_text(root / "x.txt", "three")
    assert local_file(root / "x.txt").read_text() == "three"
    assert local_file(root / "x.txt").name == "x.txt"
    assert file_digest(root / "x.txt") != digest
    assert content_digest(root / "x.txt") != own


def test_features_are_kept_and_damage_is_found(root: Place) -> None:
    store = FeatureStore(root, {"representation": "mine", "x": 1})
    values = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    file = store.write("pool", FeatureShard([f"{n:032x}" for n in range(2)], values), "float32")
    opened = FeatureStore.open(store.path)
    assert np.array_equal(opened.read("pool", file).values_ECK, values)
    files, positions = opened.keys("pool").places([f"{n:032x}" for n in range(3)])
    assert (files.tolist(), positions.tolist()) == ([0, 0, -1], [0, 1, -1])
    write_bytes(store.path / "pool" / file, b"something else")
    with pytest.raises(DamagedShardError):
        opened.read("pool", file)
    assert opened.files("pool") == {}


def test_of_a_table_in_a_bucket_only_ranges_are_fetched(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del server
    from s3fs.core import S3File

    fetched = []
    fetch = S3File._fetch_range

    def counting(self: S3File, start: int, end: int) -> bytes:
        fetched.append(end - start)
        return fetch(self, start, end)

    monkeypatch.setattr(S3File, "_fetch_range", counting)
    file, rng = place(f"s3://{BUCKET}/ranges/table.parquet"), np.random.default_rng(0)
    columns = {f"c{n}": rng.normal(size=200_000) for n in range(10)}
    write_parquet(file, pa.table(columns))
    assert read_parquet(file, ["c3"])["c3"].to_numpy().tolist() == columns["c3"].tolist()
    assert sum(fetched) < 0.15 * file.stat().st_size
    assert len(fetched) <= 6
    fetched.clear()
    with open_parquet(file) as table:
        assert table.metadata.num_rows == 200_000
    assert sum(fetched) < 0.01 * file.stat().st_size


def test_the_copies_of_a_machine_are_bounded(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del server
    monkeypatch.setenv("TIS_RAY_CACHE_GB", "0.0005")
    for number in range(10):
        file = place(f"s3://{BUCKET}/copies/{number}")
        write_bytes(file, bytes(100_000))
        copy = local_file(file)
        old = time.time() - IN_USE - 100 + number
        os.utime(copy.parent, (old, old))
    held = sum(path.stat().st_size for path in cache_folder().rglob("*") if path.is_file())
    assert 300_000 <= held <= 500_000
    assert local_file(file).exists()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("s3://key:secret@bucket/x", "carries a user or a password"),
        ("s3://key@bucket/x", "carries a user or a password"),
        ("https://host/x?token=secret", "carries a user or a password"),
        ("nothing://x/y", "cannot be reached"),
    ],
)
def test_what_is_no_place_is_refused(named: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        place(named)
    assert "secret" not in str(caught.value)


def test_paths_are_as_they_were() -> None:
    assert place("a/b") == Path("a/b")
    assert place("file:///a/b%20c") == Path("/a/b c")
    assert place("~/x") == Path.home() / "x"
    assert not is_remote("C:/x")
    assert not is_remote("a:b")
    assert is_remote("s3://a/b")


def test_an_artifact_that_is_made_again_has_its_new_manifest(root: Place) -> None:
    artifact = Artifact(root, "stage", {"x": 1})
    artifact.commit(rows=1)
    artifact.reopen()
    assert not artifact.complete
    artifact.commit(rows=2)
    assert artifact.manifest().rows == 2


@pytest.mark.parametrize("named", [None, 3, ["a"]])
def test_what_names_no_place_is_said(named: object) -> None:
    with pytest.raises(TypeError, match="names no place"):
        place(named)  # type: ignore[arg-type]
