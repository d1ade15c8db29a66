"""Files: every kind and type reads the same, folders are read as their names say, trouble is one line."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from tis_ray.config import Config, parse_config
from tis_ray.data import Rejected, files_by_kind, read_rows
from tis_ray.errors import InputError
from tis_ray.settings import FileSource, ListSource

DIALOGUE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
PAIR = {"prompt": "Hi", "completion": "Hello"}


def read(path: Path | str, **options: Any) -> list[Any]:
    return list(read_rows(FileSource(path=str(path), **options)))


def read_all(*sources: Any, **options: Any) -> list[Any]:
    return list(read_rows(ListSource(sources=list(sources), **options)))


def line_of(path: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        read(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def jsonl(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def pairs(name: str, count: int = 2) -> list[dict[str, str]]:
    return [{"prompt": f"{name}{n}", "completion": "x"} for n in range(count)]


def asked(rows: list[Any]) -> list[str]:
    return [row["messages"][0]["content"] for row in rows]


MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([DIALOGUE], pa.list_(MESSAGE)),
        pa.array([DIALOGUE], pa.large_list(MESSAGE)),
        pa.array([DIALOGUE], pa.list_(MESSAGE, 2)),
        pa.array([DIALOGUE], pa.list_view(MESSAGE)),
        pa.array([DIALOGUE], pa.list_(pa.struct([("content", pa.string_view()), ("role", pa.large_string())]))),
        pa.array([DIALOGUE], pa.list_(pa.struct([("content", pa.binary()), ("role", pa.string())]))),
        pa.array([[list(turn.items()) for turn in DIALOGUE]], pa.list_(pa.map_(pa.string(), pa.string()))),
        pa.array([{"role": ["user", "assistant"], "content": ["Hi", "Hello"]}]),
        pa.array([json.dumps(DIALOGUE)]),
        pa.array([json.dumps(DIALOGUE)]).dictionary_encode(),
        pa.array([[{**turn, "name": None, "tool_calls": []} for turn in DIALOGUE]]),
    ],
    ids=lambda column: str(column.type)[:40],
)  # fmt: skip
def test_tables_of_any_type_say_the_same(tmp_path: Path, column: pa.Array) -> None:
    table = pa.table({"messages": column, "note": ["n"]})
    with (
        pa.OSFile(str(tmp_path / "p.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    rows = read(tmp_path / "p.arrow")
    try:
        pq.write_table(table, tmp_path / "p.parquet")
        rows += read(tmp_path / "p.parquet")
    except pa.ArrowNotImplementedError:
        assert pa.types.is_list_view(column.type)  # Parquet has no such type
    for row in rows:
        assert row["messages"] == DIALOGUE
        assert row["left_out"] == ["note"]


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (pa.array([1.0, None, 3.0]), ["1.0", None, "3.0"]),
        (pa.array([b"a", b"\xff", None]), ["a", "ff", None]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([1, 2**31 - 1, None], pa.date32()), ["1970-01-02", "<value out of range: 2147483647>", None]),
        (pa.array([datetime(2024, 1, 2, 3, 4), None, None]), ["2024-01-02 03:04:00.000000", None, None]),
        (pa.array([1, 2, None], pa.timestamp("ns")), ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000000002", None]),
        (pa.array(["a", "b", None]).dictionary_encode(), ["a", "b", None]),
        (pa.array([1, 2, 3], pa.decimal128(9, 2)), ["1.00", "2.00", "3.00"]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)  # fmt: skip
def test_ids_of_any_scalar_type(tmp_path: Path, ids: pa.Array, texts: list[str | None]) -> None:
    columns = {"id": ids, "prompt": ["a", "b", "c"], "completion": ["x"] * 3}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    assert [row.get("given_id") for row in read(tmp_path / "p.parquet")] == texts


def test_ids_that_are_lists_are_refused(tmp_path: Path) -> None:
    columns = {"id": [[1], [2]], "prompt": ["a", "b"], "completion": ["x"] * 2}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    assert [row.reason for row in read(tmp_path / "p.parquet")] == ["wrong_type"] * 2


def test_null_arguments_that_a_table_made_up_are_dropped(tmp_path: Path) -> None:
    calls = [
        {"function": {"name": "f", "arguments": argument}} for argument in ({"a": 1}, {"b": 2})
    ]
    rows = [{"messages": [{"role": "assistant", "content": "", "tool_calls": [c]}]} for c in calls]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    found = [
        row["messages"][0]["tool_calls"][0]["function"] for row in read(tmp_path / "p.parquet")
    ]
    assert found == [call["function"] for call in calls]


def test_tables_with_one_name_twice_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    text = pa.array(["x"])
    pq.write_table(
        pa.Table.from_arrays([text, text, text], ["prompt", "prompt", "completion"]), path
    )
    assert "two columns are named 'prompt'; rename or drop one" in line_of(path)
    twice = pa.StructArray.from_arrays([text, text], names=["role", "role"])
    table = pa.table({"messages": pa.ListArray.from_arrays([0, 1], twice)})
    with (
        pa.OSFile(str(tmp_path / "p.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as out,
    ):
        out.write_table(table)
    assert "column 'messages' has two fields named 'role'" in line_of(tmp_path / "p.arrow")


def test_rows_of_csv_begin_where_their_line_is(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [
        ["prompt", "completion", "id", "n"],
        ["a\nb", 'say "x"', "7", ""],
        ["c", "d,e", "", "2"],
    ]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)
        file.write("too,few\r\n\r\nf,g,8,\r\n")
    first, second, bad, last = read(path)
    assert [(row["line"], row["messages"][0]["content"]) for row in (first, second, last)] == [
        (2, "a\nb"),
        (4, "c"),
        (7, "f"),
    ]
    assert (first["id"], first["messages"][1]["content"]) == ("7", 'say "x"')
    assert ("left_out" in first, second["left_out"]) == (False, ["n"])
    assert (bad.line, bad.reason, bad.detail) == (5, "wrong_type", "row: has 2 cells, the header 4")
    (tmp_path / "p.tsv.gz").write_bytes(gzip.compress(b"question\tanswer\nHi\tHello\n"))
    (row,) = read(tmp_path / "p.tsv.gz")
    assert (row["messages"], row["source"]) == (DIALOGUE, "p")


def test_csv_holds_dialogues_as_json_and_long_cells(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    long = [DIALOGUE[0], {"role": "assistant", "content": "x" * 200_000}]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["messages"], [json.dumps(DIALOGUE)], [json.dumps(long)]])
    assert [row["messages"] for row in read(path)] == [DIALOGUE, long]


def test_old_line_ends_nul_and_separators_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [{"prompt": f"{n}\0\u2028\r", "completion": "x"} for n in range(3)]
    path.write_bytes(b"\r".join(json.dumps(row, ensure_ascii=False).encode() for row in rows))
    found = read(path)
    assert asked(found) == [row["prompt"] for row in rows]
    assert [row["line"] for row in found] == [1, 2, 3]


def test_folders_with_several_kinds_are_read_whole(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", *pairs("a"))
    pq.write_table(pa.Table.from_pylist(pairs("b")), tmp_path / "b.parquet")
    (tmp_path / "c.json").write_text(json.dumps(pairs("c")))
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "README.md").write_text("x")
    assert asked(read(tmp_path)) == ["a0", "a1", "b0", "b1", "c0", "c1"]
    counts = {".json": 1, ".jsonl": 1, ".parquet": 1, "other": 1}
    assert files_by_kind(FileSource(path=str(tmp_path))) == counts


def test_partitions_are_fields_of_their_rows(tmp_path: Path) -> None:
    jsonl(tmp_path / "source=flan" / "lang=de%20at" / "a.jsonl", *pairs("a", 1))
    jsonl(tmp_path / "source=__HIVE_DEFAULT_PARTITION__" / "b.jsonl", *pairs("b", 1))
    jsonl(tmp_path / "source=own" / "c.jsonl", {**PAIR, "source": "mine"})
    rows = read(tmp_path)
    assert {row["file"].split("/")[-1]: row["source"] for row in rows} == {
        "a.jsonl": "flan",
        "b.jsonl": "b",
        "c.jsonl": "mine",
    }
    assert [row.get("left_out") for row in rows if row["source"] == "flan"] == [["lang"]]
    assert read(tmp_path / "source=flan")[0]["source"] == "flan"
    assert read(tmp_path / "source=flan" / "*" / "a.jsonl", source="s")[0]["source"] == "flan"


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("data/train-00000-of-00001-a09b74b3ef9c3b56.parquet", "data/test-00000-of-00001.parquet"),
        ("train.jsonl", "test.jsonl"),
        ("mine_train.jsonl", "mine_test.jsonl"),
        ("train/x.jsonl", "test/x.jsonl"),
    ],
)
def test_of_several_splits_the_one_asked_for_is_read(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for split, name in zip("ab", names, strict=True):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".jsonl":
            jsonl(path, *pairs(split, 1))
        else:
            pq.write_table(pa.Table.from_pylist(pairs(split, 1)), path)
    assert line_of(tmp_path).endswith("holds the splits test, train; name one with `split:`")
    assert asked(read(tmp_path, split="train")) == ["a0"]
    assert asked(read(tmp_path, split="test")) == ["b0"]
    message = line_of(tmp_path, split="dev")
    assert message.endswith("has no split 'dev'; it holds the splits test, train")


def test_a_pattern_that_holds_several_splits_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        jsonl(tmp_path / f"{split}-00000-of-00001.jsonl", *pairs(split, 1))
    assert line_of(tmp_path / "*.jsonl").endswith("splits test, train; name one with `split:`")
    assert asked(read(tmp_path / "*.jsonl", split="test")) == ["test0"]
    assert asked(read(tmp_path / "train*.jsonl")) == ["train0"]


def test_links_are_followed_and_no_file_is_read_twice(tmp_path: Path) -> None:
    jsonl(tmp_path / "pool/v1/a.jsonl", *pairs("a", 1))
    jsonl(tmp_path / "elsewhere/b.jsonl", *pairs("b", 1))
    for link, target in (
        ("pool/latest", "v1"),
        ("pool/v1/up", ".."),
        ("pool/more", "../elsewhere"),
    ):
        (tmp_path / link).symlink_to(target)
    (tmp_path / "elsewhere/again").symlink_to(tmp_path / "pool")
    assert [row["file"] for row in read(tmp_path / "pool")] == ["more/b.jsonl", "v1/a.jsonl"]
    once = FileSource(path=str(tmp_path / "pool/v1/a.jsonl"))
    for other in ("pool/v1/../v1/a.jsonl", "pool/latest/a.jsonl", "pool/v1/a.jsonl"):
        with pytest.raises(InputError, match=r"a\.jsonl is read twice; name it once"):
            read_all(once, FileSource(path=str(tmp_path / other)))
    (tmp_path / "pool/gone.jsonl").symlink_to("nowhere")
    assert line_of(tmp_path / "pool").endswith("not there; fetch it, or remove it")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert line_of(tmp_path / "pipe.jsonl").endswith(
        "is neither a file nor a folder; give one of them"
    )


def test_columns_that_are_not_read_count_where_they_hold_something(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "prompt": ["a", "b", "c"],
        "completion": ["x"] * 3,
        "a.b": [1, None, 3],
        "nested": pa.array([[1.0], [], None]),
        "full": [1, 2, 3],
        "gone": pa.array([None] * 3, pa.string()),
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    feather.write_feather(table, tmp_path / "t.feather")
    expected = [["a.b", "full", "nested"], ["full", "nested"], ["a.b", "full"]]
    for name in ("t.parquet", "t.feather"):
        assert [row["left_out"] for row in read(tmp_path / name)] == expected


def test_a_key_that_is_there_twice_is_no_choice(tmp_path: Path) -> None:
    twice = '{"prompt": "a", "completion": "b", "completion": "c"}'
    good = json.dumps(PAIR)
    turns = json.dumps({"messages": '[{"role": "user", "role": "assistant", "content": "a"}]'})
    (tmp_path / "a.jsonl").write_text(f"{twice}\n{good}\n{turns}\n")
    (tmp_path / "b.json").write_text(f"[{twice}, {good}, {turns}]")
    maps = [[("role", "user"), ("role", "assistant"), ("content", "a")]]
    column = pa.array([maps], pa.list_(pa.map_(pa.string(), pa.string())))
    pq.write_table(pa.table({"messages": column}), tmp_path / "c.parquet")
    for name in ("a.jsonl", "b.json"):
        first, row, last = read(tmp_path / name)
        assert (first.line, first.reason) == (1, "bad_json")
        assert first.detail == "an object has the key 'completion' twice; keep one"
        assert asked([row]) == ["Hi"]
        assert last.detail == "messages: an object has the key 'role' twice; keep one"
    (row,) = read(tmp_path / "c.parquet")
    assert (row.reason, "duplicate key was 'role'" in row.detail) == ("wrong_type", True)


def test_columns_that_no_row_has_are_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", PAIR, {**PAIR, "meta": {"uid": 1}})
    assert read(path, columns={"id": "meta.uid"})[1]["id"] == "1"
    expected = "columns: no row has 'meta.id', named for id; check the name"
    assert line_of(path, columns={"id": "meta.id"}).endswith(expected)


def test_unnamed_columns_of_a_spreadsheet_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion,,\na,b,,x\n")
    (row,) = read(tmp_path / "a.csv")
    assert (asked([row]), row["left_out"]) == (["a"], ["column 4"])


def test_weights_share_out_the_sample_of_a_list(tmp_path: Path) -> None:
    a, b = (jsonl(tmp_path / f"{name}.jsonl", *pairs(name, 50)) for name in "ab")

    def counts(weights: tuple[float, float], sample: int) -> list[int]:
        parts = [FileSource(path=str(p), weight=w) for p, w in zip((a, b), weights, strict=True)]
        rows = read_all(*parts, sample=sample)
        return [sum(row["source"] == name for row in rows) for name in "ab"]

    assert counts((2, 1), 30) == [20, 10]
    assert counts((0.5, 0.5), 31) in ([15, 16], [16, 15])
    with pytest.raises(InputError, match="has 50 usable rows, and 60 are its share of the sample"):
        counts((1, 2), 90)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ({"path": "a.jsonl", "weight": 1}, "belongs to a source in a list"),
        ([{"path": "a.jsonl", "weight": 1}], "shares out the sample of the list"),
        (
            {"sources": ["a", {"path": "b", "weight": 1}], "sample": 5},
            "give all of its sources one",
        ),
        ({"path": ["a", "b"], "weight": 1}, "shares out the sample of the list"),
        (
            {"sources": [{"path": "a", "weight": 9}, {"path": "b", "weight": 1}], "sample": 2},
            "leaves",
        ),
        ({"sources": [{"path": "a", "weight": 1, "sample": 1}], "sample": 2}, "not both"),
    ],
)
def test_weights_that_share_out_nothing_are_refused(pool: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        config(pool)
    assert "\n" not in str(error.value)


def test_splits_that_shards_name_are_told_apart(tmp_path: Path) -> None:
    for split in ("train_sft", "train_gen", "test_sft"):
        jsonl(tmp_path / f"{split}-00000-of-00001.jsonl", *pairs(split, 1))
    assert "splits test_sft, train_gen, train_sft;" in line_of(tmp_path)
    assert asked(read(tmp_path, split="train_sft")) == ["train_sft0"]
    assert "has no split 'train'" in line_of(tmp_path, split="train")


def saved(folder: Path, name: str) -> None:
    """Write what `datasets` does in `save_to_disk`: streams, in the order that a JSON file names."""
    folder.mkdir(parents=True)
    files = ["data-00001-of-00002.arrow", "data-00000-of-00002.arrow"]
    for number, file in enumerate([*files, "cache-0123456789abcdef.arrow"]):
        table = pa.Table.from_pylist(pairs(f"{name}{number}", 1))
        with (
            pa.OSFile(str(folder / file), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
    state = {"_data_files": [{"filename": file} for file in files], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def test_saved_data_sets_are_read_in_their_order(tmp_path: Path) -> None:
    saved(tmp_path / "one", "a")
    assert asked(read(tmp_path / "one")) == ["a00", "a10"]
    for split in ("sft", "pref"):
        saved(tmp_path / "both" / split, split)
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["sft", "pref"]}')
    assert "holds the splits pref, sft" in line_of(tmp_path / "both")
    assert asked(read(tmp_path / "both", split="sft")) == ["sft00", "sft10"]
    (tmp_path / "one" / "data-00000-of-00002.arrow").unlink()
    assert "is named in state.json, but not there" in line_of(tmp_path / "one")


def test_several_sources_have_labels_and_samples_of_their_own(tmp_path: Path) -> None:
    a = jsonl(tmp_path / "x" / "a.jsonl", *pairs("a", 3), {**PAIR, "source": "own"})
    jsonl(tmp_path / "y" / "b.jsonl", *pairs("b", 30))
    rows = read_all({"path": str(a), "source": "flan"}, {"path": str(tmp_path / "y"), "sample": 4})
    assert [row["source"] for row in rows] == ["flan"] * 3 + ["own"] + ["b"] * 4
    assert {row["file"] for row in rows} == {"x/a.jsonl", "y/b.jsonl"}
    assert len(read_all(str(a), str(tmp_path / "y"), sample=5)) == 5
    with pytest.raises(InputError, match=r"x/a\.jsonl is read twice; name it once"):
        read_all(str(a), str(tmp_path / "y"), str(tmp_path / "x" / "*.jsonl"))
    with pytest.raises(InputError, match="no such file"):
        read_rows(ListSource(sources=[str(a), "gone.jsonl"]))  # type: ignore[list-item]


def config(pool: object) -> Config:
    skill = {"kind": "builtin", "skill": "plural", "rows": 4}
    return parse_config(
        {"name": "x", "budget": 1, "data": {"pool": pool, "query": skill, "test": skill}}
    )


def test_a_config_lists_sources() -> None:
    pool = config([{"path": "a.jsonl", "source": "flan"}, {"path": "b/", "sample": 50}, "hub:o/n"])
    assert [source.kind for source in pool.data.pool.sources] == ["file", "file", "hub"]  # type: ignore[union-attr]
    assert config(pool.data.pool.model_dump()) == pool
    one = config({"path": ["a", "b"], "source": "s", "sample": 9}).data.pool
    assert [(part.path, part.source) for part in one.sources] == [("a", "s"), ("b", "s")]  # type: ignore[union-attr]
    assert one.sample == 9
    for wrong, said in {
        "pool": ({"path": "a", "sourc": "x"}, "`data.pool.sourc` is not a known key; did you mean"),
        "many": (
            [{"path": "a", "sampel": 5}],
            "`data.pool.sources.sampel` is not a known key; did",
        ),
        "inner": ([["a"]], "`data.pool.sources`: a list of sources cannot hold another; write"),
        "none": ([], "`data.pool.sources`: List should have at least 1 item"),
        "skill": ([{"kind": "builtin", "skill": "plural"}], "the pool mixes all skills"),
    }.values():
        with pytest.raises(InputError) as error:
            config(wrong)
        assert said in str(error.value)


@pytest.mark.parametrize("path", ["~nouser/x.jsonl", "x" * 300, "a" * 5000, "a\0b", "/proc"])
def test_paths_that_cannot_be_reached_are_one_line(path: str) -> None:
    assert len(line_of(path)) < 300


def test_archives_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "shard-000.tar").write_bytes(b"")
    for path in (tmp_path, tmp_path / "shard-000.tar", tmp_path / "*.tar"):
        assert "shard-000.tar: is a WebDataset archive, which is not read" in line_of(path)


def test_a_name_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    jsonl(tmp_path / "a\udcff.jsonl", PAIR)
    assert "the name is not UTF-8; rename the file" in line_of(tmp_path)


def test_every_kind_of_broken_file_is_one_line(tmp_path: Path) -> None:
    data = gzip.compress(json.dumps(PAIR).encode())
    for name, content in {
        "p.arrow": b"ARROW1 no",
        "q.arrow": b"",
        "p.feather": b"FEA1 old",
        "p.parquet": b"",
        "p.jsonl.zst": data,
        "p.jsonl.bz2": data[:-3],
        "p.csv.gz": data[:-6],
    }.items():
        (tmp_path / name).write_bytes(content)
        assert str(tmp_path / name) in line_of(tmp_path / name)


def test_rejected_rows_stand_beside_good_ones(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", PAIR, {"prompt": "hi", "completion": "\ud800"}, PAIR)
    rows = read(path)
    assert [isinstance(row, Rejected) for row in rows] == [False, True, False]


DAMAGED = """
import random, sys, tempfile
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
from tis_ray.data import read_rows
from tis_ray.errors import InputError
from tis_ray.settings import FileSource

draw, folder = random.Random(0), Path(sys.argv[1])
rows = [{"prompt": f"a{n}", "completion": "b", "tags": ["x", None]} for n in range(6)]
table = pa.Table.from_pylist(rows)
ways = {
    "stream.arrow": pa.ipc.new_stream,
    "file.arrow": pa.ipc.new_file,
    "table.parquet": pq.ParquetWriter,
}
name = sys.argv[2]
for number in range(1500):
    out = pa.BufferOutputStream()
    with ways[name](out, table.schema) as writer:
        writer.write_table(table)
    data = bytearray(out.getvalue().to_pybytes())
    for _ in range(draw.randint(1, 3)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    path = folder / name
    path.write_bytes(data)
    try:
        list(read_rows(FileSource(path=str(path))))
    except InputError as error:
        assert len(str(error).splitlines()) == 1
print("all read or refused")
"""


@pytest.mark.parametrize("name", ["stream.arrow", "file.arrow", "table.parquet"])
def test_a_damaged_file_does_not_take_the_process_along(tmp_path: Path, name: str) -> None:
    """Arrow trusts offsets, and ends the process over wrong ones, so here it is one of its own."""
    command = [sys.executable, "-c", DAMAGED, str(tmp_path), name]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "all read or refused", (out.returncode, out.stderr[-300:])
