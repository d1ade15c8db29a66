"""Odd rows and odd files: each row is used or refused, each file is read or refused in one line."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.data import Record, Rejected, checked_rows, content_id, read_rows
from tis_ray.data.schemas import FIELDS, PAIRS
from tis_ray.errors import InputError
from tis_ray.settings import FileSource
from tis_ray.stages.row_facts import RowFacts
from tis_ray.store.sides import row_dicts, rows_table

SIDES = ("pool", "query", "test")

texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    [
        "",
        " ",
        "user",
        "assistant",
        "GPT",
        "tool",
        "function_call",
        "[]",
        "[",
        '{"name": "f"}',
        "\ud800",
    ]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-1, 9) | st.floats() | texts
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
parts = st.lists(
    texts | st.fixed_dictionaries({"type": st.sampled_from(["text", "image"]) | texts}, optional={"text": texts}),
    max_size=2,
)  # fmt: skip
functions = st.fixed_dictionaries(
    {}, optional={"name": texts, "arguments": anything | st.just("{}")}
)
turns = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "tool", "system", "developer"]) | anything,
        "content": texts | parts | anything,
        "from": st.sampled_from(["human", "gpt", "observation", "function_call"]) | anything,
        "value": texts | anything,
        "weight": st.sampled_from([0, 1]) | anything,
        "train": st.booleans() | anything,
        "train_detail": anything
        | st.lists(
            st.fixed_dictionaries(
                {
                    "begin_offset": st.integers(0, 4),
                    "end_offset": st.integers(0, 6),
                    "train": st.booleans(),
                }
            ),
            max_size=3,
        ),
        "tool_calls": st.lists(st.fixed_dictionaries({"function": functions}) | functions)
        | anything,
        "function_call": functions | anything,
        "name": anything,
        "reasoning_content": anything,
        "extra": anything,
    },
)
fine = st.text(max_size=5)
nearly_good = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "Human", "gpt", "tool"]), "content": fine},
    optional={
        "train": st.booleans(),
        "weight": st.sampled_from([0, 1]),
        "name": fine,
        "reasoning_content": fine,
        "tool_calls": st.lists(
            st.fixed_dictionaries(
                {"name": fine, "arguments": st.dictionaries(fine, anything, max_size=2)}
            ),
            max_size=2,
        ),
        "extra": anything,
    },
)
dialogues = st.lists(nearly_good, min_size=1, max_size=4)
dialogues |= st.lists(nearly_good | turns | anything, max_size=4)
dialogues |= dialogues.map(lambda value: json.dumps(value))
columns = st.fixed_dictionaries({}, optional={"role": st.lists(texts), "content": st.lists(texts)})
values = anything | dialogues | columns
odd_rows = (
    st.fixed_dictionaries({}, optional=dict.fromkeys(sorted(FIELDS), values))
    | st.sampled_from(PAIRS).flatmap(
        lambda pair: st.fixed_dictionaries(
            dict.fromkeys(pair, texts | dialogues),
            optional={"system": anything, "history": values, "tools": values, "id": anything},
        )
    )
    | st.sampled_from(["messages", "conversations", "chosen"]).flatmap(
        lambda name: st.fixed_dictionaries({name: dialogues | columns}, optional={"id": scalars})
    )
    | anything
)


@tries(200, suppress=[HealthCheck.too_slow])
@given(st.lists(odd_rows, max_size=8), st.sampled_from(SIDES))
def test_every_odd_row_is_used_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], side: Any
) -> None:
    accounted(tmp_path_factory.mktemp("rows"), rows, side)


def accounted(folder: Path, rows: list[Any], side: Any) -> None:
    """Assert that each row is used or refused, and that what is used can be stored and read back."""
    records = [Record("f.jsonl", n, value, "f") for n, value in enumerate(rows, 1)]
    found = list(checked_rows(records, side))
    assert len(found) == len(rows)
    stored(folder, found)


def stored(folder: Path, found: list[Any]) -> None:
    facts = RowFacts()
    kept = list(facts.usable(found))
    assert len(kept) + len(facts.rejected) == len(found)
    assert len({row["id"] for row in kept}) == len(kept)
    pq.write_table(facts.quarantine("pool"), folder / "quarantine.parquet")
    pq.write_table(rows_table(kept), folder / "rows.parquet")
    json.dumps(facts.counts()).encode()
    for row, again in zip(kept, row_dicts(folder / "rows.parquet"), strict=True):
        assert json.dumps(again, sort_keys=True) == json.dumps(read_back(row), sort_keys=True)
        assert content_id(again) == row["content"]


def read_back(row: Any) -> Any:
    """Return a row as its table gives it back: NaN, which equals nothing, compares as text."""
    return json.loads(json.dumps(row))


good = st.fixed_dictionaries(
    {"prompt": st.text(max_size=5), "completion": st.text(max_size=5)},
    optional={"id": st.integers(0, 5).map(str), "note": st.text(max_size=3)},
)


def csv_bytes(rows: list[Any], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    names = ["prompt", "completion", "id", "note"]
    writer.writerows([names, *([row.get(name, "") for name in names] for row in rows)])
    return out.getvalue().encode()


def arrow_bytes(write: Callable[[pa.Table, io.BytesIO], None], rows: list[Any]) -> bytes:
    out = io.BytesIO()
    write(pa.Table.from_pylist([{"prompt": "a", "completion": "b"}, *rows]), out)
    return out.getvalue()


def stream(table: pa.Table, out: io.BytesIO) -> None:
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)


TEXT: dict[str, Callable[[list[Any]], bytes]] = {
    ".jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    ".ndjson": lambda rows: "\r".join(json.dumps(row) for row in rows).encode(),
    ".json": lambda rows: json.dumps(rows).encode(),
    ".csv": csv_bytes,
    ".tsv": lambda rows: csv_bytes(rows, "\t"),
}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
MAKERS: dict[str, Callable[[list[Any]], bytes]] = {
    **{
        kind + packing: lambda rows, make=make, pack=pack: pack(make(rows))  # type: ignore[misc]
        for kind, make in TEXT.items()
        for packing, pack in PACK.items()
    },
    ".parquet": lambda rows: arrow_bytes(pq.write_table, rows),
    ".feather": lambda rows: arrow_bytes(feather.write_feather, rows),
    ".arrow": lambda rows: arrow_bytes(stream, rows),
}


@st.composite
def odd_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of some kind, with bytes that were changed, cut off, put in, or made up."""
    kind = draw(st.sampled_from(sorted(MAKERS)))
    data = bytearray(MAKERS[kind](draw(st.lists(good, max_size=6))))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["change", "cut", "insert", "replace"])):
            case "change" if data:
                data[place] = draw(st.integers(0, 255))
            case "cut":
                del data[place:]
            case "insert":
                data[place:place] = draw(
                    st.sampled_from([b'"', b"\n", b"\r", b"\0", b"\xff", b",", b"[", b"{"])
                )
            case _:
                data = bytearray(draw(st.binary(max_size=30)))
    return kind, bytes(data)


@tries(200, suppress=[HealthCheck.too_slow])
@given(odd_files())
def test_every_odd_file_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, bytes]
) -> None:
    read_or_refused(tmp_path_factory.mktemp("files"), *file)


def read_or_refused(folder: Path, kind: str, data: bytes) -> None:
    path = folder / f"p{kind}"
    path.write_bytes(data)
    found = rows_or_line(path)
    if isinstance(found, str):
        assert str(path) in found
        assert len(found.splitlines()) == 1
        return
    lines = [row.line if isinstance(row, Rejected) else row["line"] for row in found]
    assert lines == sorted(set(lines))
    stored(folder, found)


def rows_or_line(path: Path) -> list[Any] | str:
    """Return what a file holds, or the line that says why it cannot be read."""
    try:
        return list(read_rows(FileSource(path=str(path))))
    except InputError as error:
        return str(error)
