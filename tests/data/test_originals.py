"""Records are found again as they came: as text of JSON, or as rows of a table of the same types."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from tis_ray.data import original_records, original_rows
from tis_ray.errors import InputError
from tis_ray.settings import BuiltinSource, FileSource

TURNS = '"messages": [{"role": "user", "content": "caf\\u00e9"}, {"role": "assistant", "content": "a\\/b"}]'
LINES = [f'{{"n": 1.50, {TURNS}}}', f'{{{TURNS},"big":12345678901234567890, "e": 1e2 }}  ', "{}"]


def text_of(path: Path, text: str) -> FileSource:
    path.write_text(text)
    return FileSource(path=str(path))


def lines(source: FileSource, *numbers: int, value: object = None) -> list[str]:
    name = Path(source.path).name
    found = original_rows(source, [(name, number) for number in numbers])
    return list(found.json_lines("tis_ray", [value] * len(numbers)))


def test_a_line_of_json_stays_the_text_that_it_was(tmp_path: Path) -> None:
    source = text_of(tmp_path / "p.jsonl", "\n".join(["", "no json", *LINES]))
    assert lines(source, 4, 3, value={"rank": 1}) == [
        f'{{{TURNS},"big":12345678901234567890, "e": 1e2, "tis_ray": {{"rank": 1}}}}',
        f'{{"n": 1.50, {TURNS}, "tis_ray": {{"rank": 1}}}}',
    ]
    assert lines(source, 5) == ['{"tis_ray": null}']


def test_elements_of_an_array_come_on_one_line_each(tmp_path: Path) -> None:
    spread = json.dumps([{"a": [1, 2], "t": "x\ny"}, {"a": 1.0}], indent=2).replace("1.0", "1.00")
    source = text_of(tmp_path / "p.json", spread)
    first, second = lines(source, 1, 2)
    assert json.loads(first) == {"a": [1, 2], "t": "x\ny", "tis_ray": None}
    assert "\n" not in first
    assert '"a": 1.00' in second


def test_lines_are_numbered_as_their_rows_are(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n": 1}\r\n{"n": 2}\r{"n": 3}\n\n{"n": "a\\rb"}\n')
    source = FileSource(path=str(path))
    values = original_records(source, [("p.jsonl", number) for number in (1, 2, 3, 5)])
    assert [value["n"] for value in values.values()] == [1, 2, 3, "a\rb"]  # type: ignore[index]


SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), metadata={b"unit": b"row"}),
        ("when", pa.timestamp("ns", tz="UTC")),
        ("price", pa.decimal128(9, 2)),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("blob", pa.binary()),
        ("turns", pa.list_(pa.struct([("role", pa.large_string()), ("content", pa.string())]))),
    ],
    metadata={b"huggingface": b"{}"},
)
TABLE = pa.Table.from_pylist(
    [
        {
            "id": n,
            "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            "price": decimal.Decimal(n) / 4,
            "kind": "even" if n % 2 == 0 else None,
            "blob": bytes([n % 256]),
            "turns": [{"role": "user", "content": f"c{n}"}],
        }
        for n in range(5000)
    ],
    schema=SCHEMA,
)


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
def test_rows_of_a_table_keep_its_types_and_are_in_the_order_asked_for(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"p{kind}"
    if kind == ".parquet":
        pq.write_table(TABLE, path, row_group_size=700)
    else:
        feather.write_feather(TABLE, path, chunksize=900)
    places = [(path.name, line) for line in (4999, 1, 2600, 701, 700)]
    found = original_rows(FileSource(path=str(path)), places)
    assert found.kind == kind
    assert found.table is not None
    assert found.table.schema.equals(SCHEMA)
    assert found.table.cast(SCHEMA).to_pylist() == TABLE.take([4998, 0, 2599, 700, 699]).to_pylist()


def test_cells_of_csv_are_the_text_that_they_were(tmp_path: Path) -> None:
    source = text_of(tmp_path / "p.csv", 'a,b\n1.50,"x\ny"\n,007\n')
    found = original_rows(source, [("p.csv", 4), ("p.csv", 2)])
    assert found.kind == ".csv"
    assert found.rows() == [{"a": "", "b": "007"}, {"a": "1.50", "b": "x\ny"}]


def test_files_of_several_kinds_come_together_as_lines_of_json(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 2), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"x": 1.50}')
    found = original_rows(FileSource(path=str(tmp_path)), [("b.jsonl", 1), ("a.parquet", 2)])
    assert found.kind == ".jsonl"
    first, second = found.json_lines("tis_ray", [1, 2])
    assert first == '{"x": 1.50, "tis_ray": 1}'
    assert json.loads(second) == {
        "id": 1,
        "when": "2026-01-01T00:00:00+00:00",
        "price": "0.25",
        "kind": None,
        "blob": "AQ==",
        "turns": [{"role": "user", "content": "c1"}],
        "tis_ray": 2,
    }


def test_tables_of_other_columns_come_together_as_lines_of_json(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": [float("nan")]}), tmp_path / "b.parquet")
    found = original_rows(FileSource(path=str(tmp_path)), [("b.parquet", 1), ("a.parquet", 1)])
    assert found.texts == ['{"y": null}', '{"x": 1}']


def test_rows_of_the_generator_are_found_by_their_numbers() -> None:
    found = original_rows(BuiltinSource(rows=9), [("builtin:pool", 8), ("builtin:pool", 2)])
    assert [row["id"].rpartition(".")[2] for row in found.rows()] == ["000007", "000001"]


def test_a_row_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = text_of(tmp_path / "p.jsonl", '{"a": 1}\n')
    for place in (("p.jsonl", 2), ("q.jsonl", 1)):
        with pytest.raises(InputError, match=f"has no row at {place[0]}, line {place[1]}"):
            original_rows(source, [place])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"has no row at a\.parquet, line 3"):
        original_rows(FileSource(path=str(tmp_path / "a.parquet")), [("a.parquet", 3)])


def test_values_without_a_common_type_are_json_text_in_a_table(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": [1]}, {"a": "x", "b": [2]}]
    source = text_of(tmp_path / "p.jsonl", "\n".join(map(json.dumps, rows)))
    table = original_rows(source, [("p.jsonl", 1), ("p.jsonl", 2)]).as_table()
    assert table.to_pydict() == {"a": ["1", '"x"'], "b": [[1], [2]]}
