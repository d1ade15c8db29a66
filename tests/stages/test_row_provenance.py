"""From files in five schemas to an ordering and back: each row is found again as it came, whole."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.small import small_study
from tis_ray.config import Config, parse_config
from tis_ray.data import original_records
from tis_ray.errors import InputError
from tis_ray.stages.ordering_artifact import ordering_table
from tis_ray.stages.tokens import Tokenise, read_side
from tis_ray.store import Artifact
from tis_ray.store.sides import Side, row_dicts

OPENAI = [
    {"messages": [{"role": "user", "content": f"m{n}"}, {"role": "assistant", "content": "yes", "refusal": "no"}], "id": n, "score": n / 2}
    for n in range(3)
]  # fmt: skip
SHAREGPT = [
    {"id": n, "conversations": [{"from": "human", "value": f"c{n}"}, {"from": "gpt", "value": "yes"}], "system": "Be brief", "model": "x"}
    for n in range(3)
]  # fmt: skip
ALPACA = [
    {"instruction": f"i{n}", "input": "", "output": "yes", "id": "", "category": "qa"}
    for n in range(3)
]
PREFERENCE = [
    {"prompt": f"p{n}", "chosen": "yes", "rejected": "no", "when": None, "tags": ["a", None]}
    for n in range(3)
]
PLAIN = [{"text": f"t{n} once upon a time", "meta": {"url": f"u{n}", "n": None}} for n in range(3)]
BY_FILE = {
    "a/openai.jsonl": OPENAI,
    "a/sharegpt.json": SHAREGPT,
    "b/alpaca.csv": ALPACA,
    "b/preference.parquet": PREFERENCE,
    "plain.jsonl": PLAIN,
}


@pytest.fixture
def study(tmp_path: Path) -> Config:
    """A study whose pool is a folder of five files in five schemas, among them rows of no use."""
    folder = tmp_path / "pool"
    for name in BY_FILE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    lines = ["", "{", *map(json.dumps, OPENAI), json.dumps({"messages": []})]
    (folder / "a/openai.jsonl").write_text("\n".join(lines))
    (folder / "a/sharegpt.json").write_text(json.dumps([5, *SHAREGPT]))
    with (folder / "b/alpaca.csv").open("w", newline="") as file:
        csv.writer(file).writerows([ALPACA[0], *(row.values() for row in ALPACA)])
    pq.write_table(pa.Table.from_pylist(PREFERENCE), folder / "b/preference.parquet")
    (folder / "plain.jsonl").write_text("\n".join(map(json.dumps, PLAIN)))
    pool = {"kind": "file", "path": str(folder)}
    return parse_config(small_study(tmp_path, data__pool=pool, batch__shard_rows=4))


def side_of(config: Config, rows: Artifact) -> Side:
    """Encode the pool."""
    shards = int(rows.manifest().details["shards"])
    tokens = Artifact(config.artifact_root, "tokens", {"rows": rows.fingerprint})
    data = config.data
    encode = Tokenise(rows.path, tokens.path, "pool", config.model, data.template, data.max_length)
    for shard in range(shards):
        encode(shard)
    return Side("pool", rows, tokens, shards)


def test_rows_come_out_as_they_went_in_at_the_place_that_the_ordering_names(study: Config) -> None:
    rows = read_side(study, "pool")
    best = np.arange(rows.manifest().rows)[::-1]
    none = [None] * len(best)
    table = ordering_table(side_of(study, rows), best, none, np.full(len(best), -1), none, "s")
    places = list(zip(table["file"].to_pylist(), table["line"].to_pylist(), strict=True))
    assert places[-3:][::-1] == [("a/openai.jsonl", line) for line in (3, 4, 5)]
    found = original_records(study.data.pool, places, fingerprint=rows.inputs["content"])  # type: ignore[arg-type]
    assert list(found) != places  # they come in the order of the files
    by_file: dict[str, list[Any]] = {}
    for place in places[::-1]:
        by_file.setdefault(place[0], []).append(found[place])
    assert by_file == BY_FILE


def test_the_manifest_says_how_rows_were_read(study: Config) -> None:
    rows = read_side(study, "pool")
    details = rows.manifest().details
    assert details["files"] == {".csv": 1, ".json": 1, ".jsonl": 2, ".parquet": 1}
    assert details["schemas"] == {
        "alpaca": {"instruction/output": 3},
        "openai": {"messages": 3},
        "plain": {"text": 3},
        "preference": {"preference": 3},
        "sharegpt": {"conversations": 3},
    }
    assert details["reasons"] == {"bad_json": 1, "no_messages": 1, "wrong_type": 1}
    names = ("messages[].refusal", "score", "model", "category", "rejected", "tags", "meta")
    assert details["left_out"] == dict.fromkeys(names, 3)
    lost = pq.read_table(rows / "quarantine.parquet").to_pylist()
    assert [(row["file"], row["line"]) for row in lost] == [
        ("a/openai.jsonl", "2"),
        ("a/openai.jsonl", "6"),
        ("a/sharegpt.json", "1"),
    ]
    stored = row_dicts(rows / "rows-00000.parquet")
    assert [row["id"] for row in stored] == ["0", "1", "2", "sharegpt:0"]
    assert stored[3]["given_id"] == "0"


def test_the_tokens_stage_names_file_and_line_of_what_it_loses(study: Config) -> None:
    rows = read_side(study, "pool")
    tokens = Artifact(study.artifact_root, "tokens", {"short": True})
    dropped = {"sharegpt:0": ("excluded", "by hand")}
    Tokenise(rows.path, tokens.path, "pool", study.model, "tulu", 512, dropped)(0)
    (lost,) = pq.read_table(tokens / "quarantine-00000.parquet").to_pylist()
    assert (lost["file"], lost["line"], lost["id"]) == ("a/sharegpt.json", "2", "sharegpt:0")


def test_records_are_not_taken_from_a_source_that_has_changed(study: Config) -> None:
    rows = read_side(study, "pool")
    content = str(rows.inputs["content"])
    source = study.data.pool
    with pytest.raises(InputError, match=r"has no row at plain\.jsonl, line 9"):
        original_records(source, [("plain.jsonl", 9)], fingerprint=content)
    with (Path(source.path) / "plain.jsonl").open("a") as file:  # type: ignore[union-attr]
        file.write("\n")
    with pytest.raises(InputError, match="has changed since its rows were read; restore it"):
        original_records(source, [("plain.jsonl", 1)], fingerprint=content)
    assert original_records(source, [("plain.jsonl", 1)]) == {("plain.jsonl", 1): PLAIN[0]}


def test_rows_of_the_generator_are_found_again(tmp_path: Path) -> None:
    config = parse_config(small_study(tmp_path))
    rows = read_side(config, "pool")
    row = row_dicts(rows / "rows-00000.parquet")[4]
    (record,) = original_records(config.data.pool, [(row["file"], row["line"])]).values()
    assert record == {name: row[name] for name in ("id", "source", "messages")}


def test_a_side_without_a_usable_row_says_why_and_where(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": 3}\n{"a": 4}\n[\n')
    pool = {"kind": "file", "path": str(path)}
    with pytest.raises(InputError) as error:
        read_side(parse_config(small_study(tmp_path, data__pool=pool)), "pool")
    line = str(error.value)
    assert line.startswith(
        f"data.pool: {path} has no usable row: 4 no_messages (pool.jsonl line 1, pool.jsonl line 2, "
        "pool.jsonl line 3: expected prompts/labels, messages, "
    )
    assert "1 bad_json (pool.jsonl line 5: " in line
    assert line.endswith("repair the rows, or name their fields with `columns:`")
    path.write_text("")
    with pytest.raises(InputError, match=r"pool\.jsonl holds no rows; check the path"):
        read_side(parse_config(small_study(tmp_path, data__pool=pool)), "pool")
