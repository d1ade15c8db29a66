"""A pool that is read in portions has the rows, ids, shards and bytes of one that is read from first to last."""

from __future__ import annotations

import gzip
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tis_ray as tis
from tests.buckets import BUCKET, s3_server
from tests.small import ordering_bytes, small_study
from tests.stages.here import context_here
from tis_ray.distributed.connect import Cluster
from tis_ray.errors import InputError
from tis_ray.stages.context import Context
from tis_ray.stages.ingest import ingest, is_large
from tis_ray.stages.tokens import read_side
from tis_ray.storage import listed, place
from tis_ray.store import Artifact

SIZES = (80, 400, 1 << 20)
"""Bytes of a portion: a line or two, some lines or small files, all."""


def line(text: str, **more: Any) -> str:
    row = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}
    return json.dumps({**row, **more}, ensure_ascii=False)


def context(folder: Path, pool: Any, **changes: Any) -> Context:
    changes = {"batch__shard_rows": 7, **changes}
    return context_here(small_study(folder, data__pool=pool, **changes), folder)


def contents(artifact: Artifact) -> dict[str, object]:
    """Return the bytes of each file, and the manifest without what it took."""
    files: dict[str, object] = {
        file.name: file.read_bytes() for file in listed(artifact.path, "*.parquet")
    }
    manifest = artifact.manifest()
    return {**files, "rows": manifest.rows, "lost": manifest.quarantined, **manifest.details}


def read_both(
    folder: Path, pool: Any, sizes: tuple[int, ...] = SIZES, **changes: Any
) -> dict[str, object]:
    """Read a pool in one go and in portions of several sizes; return what all of them come to."""
    whole = contents(read_side(context(folder / "whole", pool, **changes).config, "pool"))
    for size in sizes:
        artifact = ingest(context(folder / f"by-{size}", pool, **changes), size, light=True)
        assert contents(artifact) == whole
        assert {path.suffix for path in artifact.path.iterdir()} == {".parquet", ".json", ""}
    return whole


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tis_ray.distributed.shards.FEW_SHARDS", 10**6)


def odd_pool(folder: Path) -> Path:
    """Write files of all kinds whose rows are refused, named and read in all ways."""
    folder.mkdir(parents=True)
    lines = [
        *(line(f"first {n}", id=str(n)) for n in range(20)),
        "",
        line("again", id="3"),
        "{broken",
        line("no id"),
        line("no id"),
        f"{line('one')}\r{line('two')}",
        line("ünïcode – ☃", source="a", dataset_extra=1),
        json.dumps({"messages": []}),
        "   ",
        line("last", id="a:3"),
    ]
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    (folder / "b.jsonl").write_text("\n".join(line(f"second {n}", id=n) for n in range(5, 25)))
    with gzip.open(folder / "c.jsonl.gz", "wt") as file:
        file.write("\n".join(line(f"packed {n}", id=n) for n in range(3)))
    (folder / "d.json").write_text(json.dumps([json.loads(line("in an array")), 7]))
    (folder / "e.csv").write_text("instruction,output\nq,a\nq,a\n,\n")
    rows = [
        {"messages": json.loads(line(f"row {n}"))["messages"], "id": f"r{n % 9}", "more": n or None}
        for n in range(12)
    ]
    table = pa.Table.from_pylist(rows)
    with pq.ParquetWriter(folder / "f.parquet", table.schema) as writer:
        for start in (0, 4, 8):
            writer.write_table(table.slice(start, 4))
    (folder / "g.jsonl").write_text("")
    (folder / "h.jsonl").write_text("\n\n\n" + line("after blanks") + "\n\n")
    return folder


def test_an_odd_pool_is_the_same_in_portions_of_any_size(tmp_path: Path) -> None:
    whole = read_both(tmp_path, {"path": str(odd_pool(tmp_path / "pool"))})
    assert whole["reasons"] == {
        "duplicate_id": 4,
        "no_messages": 2,
        "bad_json": 1,
        "wrong_type": 1,
    }


def test_shards_that_grow_are_the_same_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tis_ray.store.shard_layout.SIZES", (2, 4, 8))
    monkeypatch.setattr("tis_ray.store.shard_layout.OF_EACH", 2)
    pool = {"path": str(odd_pool(tmp_path / "pool"))}
    whole = read_both(tmp_path, pool, batch__shard_rows=None)
    rows = [
        pq.read_table(tmp_path / path)["row"].to_pylist()
        for path in sorted((tmp_path / "whole").glob("artifacts/rows-*/rows-*.parquet"))
    ]
    assert [len(shard) for shard in rows[:8]] == [2, 2, 2, 2, 4, 4, 8, 8]
    assert [row for shard in rows for row in shard] == [*range(int(str(whole["rows"])))]


@pytest.mark.parametrize("seed", range(16))
def test_ids_are_those_of_one_reader(tmp_path: Path, seed: int) -> None:
    """Ids that are given in several files, twice in one, and those that look like names that are made up."""
    chance = random.Random(seed)
    known = ["x", "y", "b:x", "b:y", "c:x", "x-2", "b:x-2", "c:b:x", "z"]
    folder = tmp_path / "pool"
    folder.mkdir()
    for name in ("a", "b", "c"):
        rows = []
        for _ in range(chance.randrange(12)):
            given = chance.choice([*known[: 2 + seed % 8], None, None])
            text = chance.choice(["p", "q", "r"])
            rows.append(line(text, **({} if given is None else {"id": given})))
        (folder / f"{name}.jsonl").write_text("\n".join([*rows, line(name)]))
    read_both(tmp_path, {"path": str(folder)}, sizes=(200,))


def test_a_given_id_that_is_the_hash_of_another_row(tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    (folder / "a.jsonl").write_text(line("p"))
    (made,) = pq.read_table(
        read_side(context(tmp_path / "one", {"path": str(folder)}).config, "pool").path
        / "rows-00000.parquet"
    )["id"].to_pylist()
    for given in (made, f"{made}-2"):
        (folder / "b.jsonl").write_text("\n".join([line("q", id=given), line("p"), line("p")]))
        read_both(tmp_path / given, {"path": str(folder)}, sizes=(200,))


@pytest.mark.parametrize(
    "pool",
    [
        {"sample": 5},
        {"sample": 5, "sample_seed": 3},
        {"sample": 1000},
    ],
)
def test_a_sample_is_that_of_one_reader(tmp_path: Path, pool: dict[str, Any]) -> None:
    whole = read_both(tmp_path, {"path": str(odd_pool(tmp_path / "pool")), **pool})
    assert whole["rows"] == 5 or pool["sample"] == 1000


def test_samples_of_sources_and_of_the_list_of_them(tmp_path: Path) -> None:
    odd_pool(tmp_path / "pool")
    files = {name: str(tmp_path / "pool" / name) for name in ("a.jsonl", "b.jsonl", "f.parquet")}
    own = [{"path": files["a.jsonl"], "sample": 9}, {"path": files["b.jsonl"], "source": "bees"}]
    for number, pool in enumerate(
        [
            {"sources": own},
            {"sources": own, "sample": 11},
            {"sources": [*own, {"kind": "builtin", "rows": 9}], "sample": 20, "sample_seed": 1},
            {
                "sources": [{"path": files[name], "weight": 1 + n} for n, name in enumerate(files)],
                "sample": 12,
            },
        ]
    ):
        read_both(tmp_path / str(number), pool, sizes=(300,))


def test_rows_that_are_equal_share_a_place_in_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashes that are equal are settled by the order of the rows, across portions."""
    for module in ("data.checking", "stages.ingest_write"):
        monkeypatch.setattr(f"tis_ray.{module}.sample_hash", lambda name, seed: len(name) % 2)
    folder = tmp_path / "pool"
    folder.mkdir()
    ids = [f"{n}" * (1 + n % 3) for n in range(60)]
    (folder / "a.jsonl").write_text("\n".join(line(name, id=f"i{name}") for name in ids))
    for sample in (1, 10, 25, 59):
        pool = {"path": str(folder), "sample": sample}
        read_both(tmp_path / str(sample), pool, sizes=(300,))


def both_say(folder: Path, pool: Any) -> str:
    """Return the error that both readers raise."""
    with pytest.raises(InputError) as whole:
        read_side(context(folder / "whole", pool).config, "pool")
    with pytest.raises(InputError) as parted:
        ingest(context(folder / "parted", pool), 50, light=True)
    assert str(parted.value).replace("/parted/", "/whole/") == str(whole.value)
    return str(whole.value)


def test_errors_are_those_of_one_reader(tmp_path: Path) -> None:
    folder = odd_pool(tmp_path / "pool")
    (tmp_path / "bad.jsonl").write_text('{"x": 1}\n[]\n{"messages": []}\n')
    assert "no usable row: " in both_say(tmp_path / "1", {"path": str(tmp_path / "bad.jsonl")})
    named = {"path": str(folder / "b.jsonl"), "columns": {"messages": "turns"}}
    assert "no row has 'turns'" in both_say(tmp_path / "2", named)
    weights = [
        {"path": str(folder / "a.jsonl"), "weight": 1},
        {"path": str(folder / "c.jsonl.gz"), "weight": 1},
    ]
    said = both_say(tmp_path / "3", {"sources": weights, "sample": 20})
    assert "has 3 usable rows, and 10 are its share" in said


def test_a_line_that_is_not_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pool.jsonl"
    file.write_bytes(f"{line('p')}\n{line('q')}\n".encode() + b"\xff\n")
    with pytest.raises(InputError, match=r"pool.jsonl: line 1 after byte \d+ is not UTF-8"):
        ingest(context(tmp_path, {"path": str(file)}), 80, light=True)


def test_an_interrupted_reading_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each file that is written, the reading ends; the next start leaves the same bytes."""
    pool = {"path": str(odd_pool(tmp_path / "pool")), "sample": 30}
    whole = contents(read_side(context(tmp_path / "whole", pool).config, "pool"))
    writes = count_writes(monkeypatch)
    starts = 0
    while True:
        starts += 1
        next(writes)
        try:
            artifact = ingest(context(tmp_path / "parted", pool), 300, light=True)
        except KeyboardInterrupt:
            continue
        break
    assert starts > 10
    assert contents(artifact) == whole


def count_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the 7th file that is written after each `next` interrupt the program."""
    from tis_ray.store import atomic

    left = 7
    really = atomic.atomic_path

    def counting(path: Any) -> Any:
        nonlocal left
        if threading.current_thread() is threading.main_thread():
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return really(path)

    monkeypatch.setattr("tis_ray.store.atomic.atomic_path", counting)
    while True:
        left = 7
        yield


def test_a_pool_is_large_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = context(tmp_path, {"path": str(odd_pool(tmp_path / "pool"))}).config.data.pool
    assert not is_large(source)
    monkeypatch.setattr("tis_ray.stages.ingest.LARGE", 100)
    assert is_large(source)
    made = context(tmp_path, {"kind": "builtin", "rows": 10**9}).config.data.pool
    assert not is_large(made)


def test_a_pool_in_a_bucket_and_artifacts_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = odd_pool(tmp_path / "pool")
    whole = contents(read_side(context(tmp_path / "whole", {"path": str(folder)}).config, "pool"))
    monkeypatch.setenv("TIS_RAY_CACHE", str(tmp_path / "copies"))
    with s3_server():
        for file in folder.iterdir():
            (place(f"s3://{BUCKET}/pool") / file.name).write_bytes(file.read_bytes())
        there = context(
            tmp_path / "there",
            {"path": f"s3://{BUCKET}/pool"},
            artifacts=f"s3://{BUCKET}/artifacts",
        )
        artifact = ingest(there, 800, light=True)
        assert contents(artifact) == whole
        assert artifact.fingerprint == read_side(there.config, "pool").fingerprint
        assert not [path.name for path in artifact.path.iterdir() if "reading" in path.name]


@pytest.mark.ray
@pytest.mark.parametrize("actors", [1, 3])
def test_any_number_of_workers_leaves_the_same(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, actors: int
) -> None:
    pool = {"path": str(odd_pool(tmp_path / "pool")), "sample": 30}
    whole = contents(read_side(context(tmp_path / "whole", pool).config, "pool"))
    parted = context(tmp_path / "parted", pool)
    parted.cluster = Cluster(cpus=4, gpus=0, threads=1, gpus_per_actor=0, actors=actors)
    monkeypatch.setattr("tis_ray.distributed.shards.FEW_SHARDS", 0)
    assert contents(ingest(parted, 500)) == whole


@pytest.mark.ray
def test_a_study_whose_pool_workers_read_is_the_same(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = odd_pool(tmp_path / "pool")
    (folder / "more.jsonl").write_text("\n".join(line(f"more {n}", id=f"m{n}") for n in range(99)))
    changes = {"representation": "bm25", "budget": 5}
    orderings = []
    for name in ("here", "workers"):
        study = small_study(tmp_path / name, data__pool={"path": str(folder)}, **changes)
        tis.run(study, until="select")
        orderings.append(ordering_bytes(tmp_path / name, "bm25-round_robin"))
        monkeypatch.setattr("tis_ray.stages.ingest.LARGE", 1)
    assert orderings[0] == orderings[1]
    events = (tmp_path / "workers" / "runs" / "small" / "events.jsonl").read_text()
    assert "pool: reading" in events
