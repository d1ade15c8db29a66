"""Readers: the same rows from every kind of file, and one clear line when a file is no good."""

from __future__ import annotations

import bz2
import gzip
import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.data import Rejected, content_fingerprint, original_records, read_rows
from tis_ray.data.files import RowFile
from tis_ray.data.files.json_array import array_records
from tis_ray.errors import InputError
from tis_ray.settings import BuiltinSource, FileSource, HubSource, ListSource


def make_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{n}",
            "source": "s",
            "messages": [
                {"role": "user", "content": f"{n} é\u2028 東?"},
                {"role": "assistant", "content": "a" * n},
            ],
        }
        for n in range(1, count + 1)
    ]


ROWS = make_rows(5)


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
        return path
    if path.suffix in (".arrow", ".feather"):
        feather.write_feather(pa.Table.from_pylist(rows), path)
        return path
    text = json.dumps(rows, ensure_ascii=False) if ".json" in path.suffixes else lines(rows)
    path.write_bytes(packed(text.encode(), path.suffix))
    return path


def packed(data: bytes, suffix: str) -> bytes:
    if suffix == ".zst":
        return bytes(pa.compress(data, codec="zstd", asbytes=True))
    return {".gz": gzip.compress, ".bz2": bz2.compress}.get(suffix, bytes)(data)


def read(path: Path, side: Any = "pool", **options: Any) -> list[Any]:
    return list(read_rows(FileSource(path=str(path), **options), side))


def said(rows: list[Any]) -> list[Any]:
    """Return what rows say, without where they come from."""
    names = ("id", "source", "messages")
    return [row if isinstance(row, Rejected) else {n: row[n] for n in names} for row in rows]


@pytest.mark.parametrize(
    "name",
    [
        *("p.jsonl", "p.json", "p.ndjson", "P.JSONL", "p.parquet", "p.arrow", "p.feather"),
        *("p.jsonl.gz", "p.json.gz", "p.jsonl.bz2", "p.jsonl.zst", "p.json.zst"),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    found = read(write(tmp_path / name, ROWS))
    assert said(found) == ROWS
    assert [(row["file"], row["line"]) for row in found] == [(name, n) for n in range(1, 6)]


def test_a_json_file_may_hold_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(lines(ROWS), encoding="utf-8")
    assert said(read(path)) == ROWS


def test_byte_order_mark_blank_lines_and_crlf_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(("\ufeff" + lines(ROWS).replace("\n", "\r\n\r\n \r\n")).encode())
    assert said(read(path)) == ROWS
    array = tmp_path / "p.json"
    array.write_bytes(("\ufeff \n" + json.dumps(ROWS, indent=2)).encode())
    assert said(read(array)) == ROWS


def test_lines_count_from_one_with_blank_lines_included(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('\n{"id": "x", "messages": []}\n\n{"id": \n[1]\n' + "[" * 100_000, "utf-8")
    found = read(path)
    assert [(row.file, row.line, row.id, row.reason) for row in found] == [
        ("p.jsonl", 2, "x", "no_messages"),
        ("p.jsonl", 4, None, "bad_json"),
        ("p.jsonl", 5, None, "wrong_type"),
        ("p.jsonl", 6, None, "bad_json"),
    ]


def test_parquet_rows_count_through_the_file(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    rows[3]["messages"] = []
    (rejected,) = [r for r in read(write(tmp_path / "p.parquet", rows)) if isinstance(r, Rejected)]
    assert (rejected.line, rejected.id, rejected.reason) == (4, "r4", "no_messages")


def test_null_columns_of_parquet_count_as_absent(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"instruction": "a", "output": "b", "input": "c"}]
    columns = {name: None for row in rows for name in row}
    found = read(write(tmp_path / "mixed.parquet", [{**columns, **row} for row in rows]))
    assert [row["messages"][0]["content"] for row in found] == ["a", "a\n\nc"]
    assert {row["source"] for row in found} == {"mixed"}


def test_a_folder_is_read_in_order_of_path(tmp_path: Path) -> None:
    for n in (2, 0, 1):
        write(
            tmp_path / "sub" / f"train-{n:05d}-of-00003.parquet",
            [{"prompt": str(n), "completion": "x"}],
        )
    write(tmp_path / "_notes.parquet", ROWS)
    write(tmp_path / ".cache" / "a.parquet", ROWS)
    (tmp_path / "dataset_info.json").write_text("{}")
    found = read(tmp_path)
    assert [row["messages"][0]["content"] for row in found] == ["0", "1", "2"]
    assert {row["source"] for row in found} == {"train"}
    assert said(read(tmp_path / "sub" / "*-0000[12]-*.parquet")) == said(found[1:])


def test_ids_that_repeat_between_files_are_told_apart_by_file(tmp_path: Path) -> None:
    numbered = [{**row, "id": n} for n, row in enumerate(ROWS[:2])]
    write(tmp_path / "a.jsonl", numbered)
    write(tmp_path / "b.jsonl", [*numbered, numbered[1]])
    write(tmp_path / "x" / "c.jsonl", numbered[:1])
    write(tmp_path / "y" / "c.jsonl", numbered[:1])
    found = read(tmp_path)
    rows = [row for row in found if not isinstance(row, Rejected)]
    assert [row["id"] for row in rows] == ["0", "1", "b:0", "b:1", "x/c:0", "y/c:0"]
    assert [row["given_id"] for row in rows] == ["0", "1", "0", "1", "0", "0"]
    (twice,) = [row for row in found if isinstance(row, Rejected)]
    assert (twice.file, twice.line, twice.id, twice.reason) == ("b.jsonl", 3, "1", "duplicate_id")


def one_line_error(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_path_that_is_not_there_fails_before_reading(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match="no such file or folder"):
        read_rows(source)
    assert "no file matches" in one_line_error(tmp_path / "*.jsonl")


def test_unreadable_files_are_one_line_errors(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "readme.txt").write_text("x")
    assert "the folder holds no rows" in one_line_error(empty)
    cases = {
        "rows.txt": (b"a,b", "unknown file type; expected .parquet, .arrow"),
        "rows.tar": (b"", "is a WebDataset archive, which is not read"),
        "rows.csv": (b"a,b", "no column that holds rows"),
        "quote.csv": (b'prompt,completion\na,b\n"a,b\nc,d\n', "line 3: cannot be split into cells"),
        "twice.csv": (b"text,text\na,b", "two columns are named 'text'"),
        "latin.jsonl": (lines(ROWS).encode() + b'{"a": "\xe9"}\n', "line 6 is not UTF-8"),
        "wide.jsonl": (lines(ROWS).encode("utf-16"), "line 1 is not UTF-8"),
        "latin.json": (b'[{"a": "\xe9"}]', "not UTF-8"),
        "one.json": (b'{\n "data": []\n}', "neither an array nor one object per line"),
        "cut.json": (json.dumps(ROWS).encode()[:-9], "element 5 of the array"),
        "comma.json": (json.dumps(ROWS).encode()[:-1] + b",]", "element 6 of the array"),
        "gap.json": (b"[{} {}]", "element 1 of the array"),
        "open.json": (b"[", "element 1 of the array"),
        "two.json": (b"[]\n[]", "text after the array"),
        "plain.jsonl.gz": (b"no gzip", "cannot be read"),
        "cut.jsonl.gz": (gzip.compress(lines(ROWS).encode())[:-12], "cannot be read"),
        "rows.parquet": (b"PAR1 no", "cannot be read"),
    }
    for name, (data, expected) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert expected in one_line_error(path)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"id": ["a"], "title": ["b"]}), other)
    assert "no column that holds rows" in one_line_error(other)
    assert "found id, title" in one_line_error(other)


@given(
    values=st.lists(st.integers() | st.floats(allow_nan=False) | st.text(max_size=30), max_size=9)
)
def test_an_array_reads_the_same_in_chunks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("array") / "p.json"
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    for chunk in (1, 7, 1 << 20):
        records = array_records(RowFile(path, "p.json", "p"), chunk)
        assert [record.value for record in records] == values


mixed_lines = st.lists(
    st.sampled_from([*ROWS, {"messages": []}, {"prompt": "a", "completion": "b"}, 3, "", "{"]),
    max_size=15,
)


@given(mixed_lines, st.randoms(use_true_random=False))
def test_every_line_is_accounted_for_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], rng: random.Random
) -> None:
    texts = [v if isinstance(v, str) else json.dumps(v) for v in values]
    path = tmp_path_factory.mktemp("lines") / "p.jsonl"

    def outcome() -> tuple[set[str], list[str]]:
        path.write_text("\n".join(texts), encoding="utf-8")
        found = read(path)
        assert len(found) == sum(bool(text) for text in texts)
        ids = [row["id"] for row in found if not isinstance(row, Rejected)]
        assert len(set(ids)) == len(ids)
        return set(ids), sorted(row.reason for row in found if isinstance(row, Rejected))

    before = outcome()
    rng.shuffle(texts)
    assert outcome() == before


def test_sample_and_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"messages": []}, *make_rows(30)])
    found = read(path, sample=10, sample_seed=1)
    assert isinstance(found[0], Rejected)
    assert len(found) == 11
    assert [row["id"] for row in found[1:]] == sorted(
        (row["id"] for row in found[1:]), key=lambda name: int(name[1:])
    )
    assert found != read(path, sample=10, sample_seed=2)
    source = FileSource(path=str(path))
    assert len(list(read_rows(source, limit=3))) == 4
    assert list(read_rows(source, limit=0)) == []


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(lines(ROWS).encode() + b"\xff\n")
    rows = read_rows(FileSource(path=str(path)))
    assert said([next(rows)]) == ROWS[:1]
    with pytest.raises(InputError):
        list(rows)


def test_builtin_sides_differ_and_repeat() -> None:
    pool = list(read_rows(BuiltinSource(rows=20, seed=1), "pool"))
    assert len(pool) == 20
    assert pool == list(read_rows(BuiltinSource(rows=20, seed=1), "pool"))
    skill = pool[0]["source"]  # type: ignore[index]
    query, test = (
        list(read_rows(BuiltinSource(rows=5, skill=skill), side)) for side in ("query", "test")
    )
    assert {row["id"] for row in query}.isdisjoint(row["id"] for row in test)  # type: ignore[index]
    with pytest.raises(InputError, match=r"data\.query\.skill is missing"):
        read_rows(BuiltinSource(rows=5), "query")


def test_fingerprint_names_content_not_place(tmp_path: Path) -> None:
    def print_of(path: Path, **options: Any) -> str:
        return content_fingerprint(FileSource(path=str(path), **options))

    first = write(tmp_path / "a" / "p.jsonl", ROWS)
    same = write(tmp_path / "b" / "p.jsonl", ROWS)
    base = print_of(first)
    assert base == print_of(same)
    assert base == print_of(tmp_path / "a")
    assert base == print_of(first, sample_seed=5)
    changed = [
        print_of(write(tmp_path / "c" / "p.jsonl", ROWS[:4])),
        print_of(write(tmp_path / "c" / "other.jsonl", ROWS)),  # rows may take their source from it
        print_of(first, sample=3),
        print_of(first, sample=3, sample_seed=1),
        content_fingerprint(FileSource(path=str(first)), "query"),
        content_fingerprint(BuiltinSource(rows=10)),
        content_fingerprint(BuiltinSource(rows=11)),
        content_fingerprint(BuiltinSource(rows=10, seed=1)),
        content_fingerprint(HubSource(name="a/b")),
        content_fingerprint(HubSource(name="a/b", revision="c0ffee")),
    ]
    assert len({base, *changed}) == 11
    with pytest.raises(InputError, match="no such file"):
        print_of(tmp_path / "none.jsonl")


def fake_datasets(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    module = ModuleType("datasets")
    module.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_hub_rows_stream_from_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load(*args: Any, **options: Any) -> list[Any]:
        calls.append((args, options))
        return [{**ROWS[0], "source": None}, {"title": "x"}]

    fake_datasets(monkeypatch, load)
    source = HubSource(name="org/set", config="main", split="dev", revision="c0ffee")
    row, rejected = read_rows(source)
    assert said([row]) == [{**ROWS[0], "source": "org/set"}]
    assert isinstance(rejected, Rejected)
    assert (rejected.file, rejected.line, rejected.reason) == ("hub:org/set", 2, "no_messages")
    options = {"split": "dev", "revision": "c0ffee", "streaming": True}
    assert calls == [(("org/set", "main"), options)]


def test_configurations_of_a_data_set_have_lines_and_ids_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(name: str, part: str, **options: Any) -> list[Any]:
        return [{**ROWS[0], "id": 0, "part": part, "licence": None}]

    fake_datasets(monkeypatch, load)
    parts = [HubSource(name="org/set", config=part) for part in ("a", "b")]
    made = [BuiltinSource(rows=1, seed=seed) for seed in (0, 1)]
    source = ListSource(sources=[*parts, *made])
    rows = [row for row in read_rows(source) if not isinstance(row, Rejected)]
    places = [(row["file"], row["line"]) for row in rows]
    assert [row["id"] for row in rows][:2] == ["0", "hub:org/set#2:0"]
    files = ["hub:org/set", "hub:org/set#2", "builtin:pool", "builtin:pool#2"]
    assert places == [(file, 1) for file in files]
    found = original_records(source, places)
    assert [found[place]["part"] for place in places[:2]] == ["a", "b"]  # type: ignore[index]
    assert found[places[0]]["licence"] is None  # type: ignore[index]
    assert [found[place]["id"] for place in places[2:]] == [row["id"] for row in rows[2:]]  # type: ignore[index]


def test_hub_failures_are_one_line_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HubSource(name="org/set")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the `datasets` package; pip install datasets"):
        read_rows(source)

    def missing(*args: Any, **options: Any) -> Any:
        raise FileNotFoundError("no such data set\nlong story")

    fake_datasets(monkeypatch, missing)
    with pytest.raises(InputError, match=r"hub:org/set: cannot be read \(no such data set\)"):
        read_rows(source)

    def broken(*args: Any, **options: Any) -> Any:
        def rows() -> Any:
            yield ROWS[0]
            raise ConnectionError("gone")

        return rows()

    fake_datasets(monkeypatch, broken)
    with pytest.raises(InputError, match="gone"):
        list(read_rows(source))
