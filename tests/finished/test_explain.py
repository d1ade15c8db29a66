"""What `explain` says of a run, read from a run folder made by hand."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from rich.console import Console

from tis_ray.config import Config, parse_config, plan
from tis_ray.errors import InputError
from tis_ray.finished.explain import explain_row
from tis_ray.finished.explain_all import explain_orderings, first_rows, not_selected
from tis_ray.finished.explain_screen import print_explained
from tis_ray.store import Artifact, write_npy, write_parquet
from tis_ray.store.sides import QUARANTINE, rows_table

# Two queries (0: q-a, 1: q-b) and seven candidates; row 3 of the pool was not usable.
SCORES = np.array([[0.9, 0.1, 0.8, 0.2, 0.0, 0.3, 0.1], [0.0, 0.7, 0.1, 0.2, 0.6, 0.3, 0.2]])
COLUMNS = np.array([0, 1, 2, 4, 5, 6, 7])


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse_config(
        {
            "name": "tiny",
            "runs": str(tmp_path / "runs"),
            "artifacts": str(tmp_path / "artifacts"),
            "data": {"pool": "p.jsonl", "query": "q.jsonl", "test": "t.jsonl"},
            "budget": 4,
        }
    )


def rows_artifact(root: Path, side: str, asked: list[str]) -> Artifact:
    """The tokens of a side, made from its rows: in shards of three, `pool-id-3` being row 3's own id."""
    rows = Artifact(root, "rows", {"side": side, "shard_rows": 3})
    names = [f"row-{n}" if side == "pool" else f"q-{'ab'[n]}" for n in range(len(asked))]
    found = [
        {
            "row": n,
            "id": name,
            "given_id": f"{side}-id-{n}",
            "source": "web",
            "messages": [
                {"role": "user", "content": asked[n]},
                {"role": "assistant", "content": f"It is {2 * n}."},
            ],
            "file": f"{side}.jsonl",
            "line": n + 1,
            "content": name,
        }
        for n, name in enumerate(names)
    ]
    for shard, start in enumerate(range(0, len(found), 3)):
        write_parquet(rows / f"rows-{shard:05d}.parquet", rows_table(found[start : start + 3]))
    rows.commit()
    tokens = Artifact(root, "tokens", {"rows": rows.fingerprint})
    tokens.commit()
    return tokens


def said(config: Config, example: str, near: float | None = None, width: int = 200) -> list[str]:
    """What people read of a row on a pipe, by lines."""
    console = Console(width=width, color_system=None)
    several = len(plan(config)) > 1
    with console.capture() as shown:
        for found in explain_row(config, example, near):
            print_explained(found, console, several)
    return [line.rstrip() for line in shown.get().splitlines()]


@pytest.fixture
def finished(config: Config) -> Config:
    """The study with one ordering of four rows, and everything that lies behind it."""
    root = config.artifact_root
    pool = rows_artifact(root, "pool", [f"Add {row} and {row}, please." for row in range(8)])
    query = rows_artifact(root, "query", ["Kindly add 1 and 1, please.", "What is red?"])
    made_from = {"pool": pool.fingerprint, "query": query.fingerprint}  # features were streamed
    scores = Artifact(root, "scores-less", made_from)
    write_npy(scores / "columns.npy", COLUMNS)
    write_npy(scores / "queries.npy", np.arange(2))
    for shard, part in enumerate(np.split(SCORES, [3, 5], axis=1)):
        write_npy(scores / f"scores-{shard:05d}.npy", part)
    scores.commit()
    ordering = Artifact(root, "ordering-less-round_robin", {"scores": scores.fingerprint})
    chosen = [(0, 0.9, 0), (1, 0.7, 1), (2, 0.8, 0), (5, 0.6, 1)]
    table = pa.table(
        {
            "index": [index for index, _, _ in chosen],
            "rank": list(range(4)),
            "score": [score for _, score, _ in chosen],
            "query": pa.array([query for _, _, query in chosen], pa.int32()),
            "id": [f"row-{index}" for index, _, _ in chosen],
            "source": ["web"] * 4,
            "query_id": [f"q-{'ab'[query]}" for _, _, query in chosen],
            "file": ["pool.jsonl"] * 4,
            "line": [index + 1 for index, _, _ in chosen],
        }
    )
    write_parquet(ordering / "ordering.parquet", table)
    ordering.commit()
    link = config.run_dir / "orderings" / "less-round_robin"
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(ordering.path, link.parent))
    return config


def test_a_chosen_row_has_rank_score_query_margin_and_neighbours(finished: Config) -> None:
    lines = said(finished, "row-0")
    assert lines[0] == "row-0  source web; pool.jsonl, line 1; its own id is pool-id-0"
    assert lines[1] == (
        "less-round_robin: rank 1 of 4, score 0.9000, pulled by query q-a, margin 0.1000"
    )
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["1", "0.9000", "this"],
        ["2", "0.7000", "row-1"],
        ["3", "0.8000", "row-2"],
    ]
    assert lines[3].endswith("Add 1 and 1, please.")
    # Rows 0, 1 and 2 had better ranks, so what the query could have had instead is row 6, at 0.3.
    assert said(finished, "row-5")[1] == (
        "less-round_robin: rank 4 of 4, score 0.6000, pulled by query q-b, margin 0.3000"
    )


def test_a_row_stands_beside_its_query_with_what_they_share(finished: Config) -> None:
    lines = said(finished, "row-0", width=100)
    head = next(n for n, line in enumerate(lines) if line.startswith(" row "))
    assert lines[head].split() == ["row", "query", "q-a"]
    assert [line.split("  ")[0].strip() for line in lines[head + 2 : head + 6]] == [
        "user",
        "Add 0 and 0, please.",
        "assistant",
        "It is 0.",
    ]
    assert lines[head + 3].endswith("Kindly add 1 and 1, please.")
    assert lines[-1] == "in common (less-round_robin): “It is 0”"


def test_a_row_is_found_by_its_own_id_and_by_its_line(finished: Config) -> None:
    expected = said(finished, "row-5")
    for name in ("pool-id-5", "pool.jsonl:6", "./data/pool.jsonl:6"):
        assert said(finished, name) == expected


def test_texts_cannot_act_on_a_terminal(finished: Config) -> None:
    (path,) = finished.artifact_root.glob("rows-*/rows-00002.parquet")
    table = pq.read_table(path).to_pylist()
    evil = "[red]x[/red] \x1b[2J\r" + "word " * 600
    table[0]["messages"][0]["content"] = evil
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "[b]"}}}
    table[0]["messages"][1] |= {"content": "", "tool_calls": json.dumps([call])}
    write_parquet(path, pa.Table.from_pylist(table, pq.read_schema(path)))
    text = "\n".join(said(finished, "row-6", width=120))
    assert "[red]x[/red] \\x1b[2J\\x0d" in text
    assert "\x1b" not in text
    assert "more characters" in text
    assert "look({'at': '[b]'})" in text


def test_as_json_a_row_has_its_whole_text(finished: Config) -> None:
    (found,) = explain_row(finished, "row-5")
    told = json.loads(json.dumps(asdict(found)))
    (verdict,) = told["verdicts"]
    assert (verdict["rank"], verdict["query_id"], verdict["pulled"]) == (4, "q-b", True)
    assert told["row"]["messages"][0]["content"] == "Add 5 and 5, please."
    assert told["queries"]["q-b"]["messages"][0]["content"] == "What is red?"


def test_the_table_of_all_selected_rows_is_written_twice(finished: Config, tmp_path: Path) -> None:
    (found,) = explain_orderings(finished)
    method, table, path = found.method, found.table, found.path
    assert (method, path) == (
        "less-round_robin",
        finished.run_dir / "explain" / f"{method}.parquet",
    )
    assert table["rank"].to_pylist() == [1, 2, 3, 4]
    assert table["id"].to_pylist() == ["row-0", "row-1", "row-2", "row-5"]
    # Row 1 over row 5, which came later; row 2 over row 6.
    assert table["margin"].to_pylist() == pytest.approx([0.1, 0.1, 0.5, 0.3])
    assert table["query_score"].to_pylist() == pytest.approx([0.9, 0.7, 0.8, 0.6])
    assert table["text"][3].as_py() == "user:\nAdd 5 and 5, please.\nassistant:\nIt is 10."
    assert table["query_text"][3].as_py().startswith("user:\nWhat is red?")
    assert found.begins[1] == "Add 1 and 1, please."
    assert pq.read_table(path).equals(table)
    lines = csv.ParseOptions(newlines_in_values=True)
    again = csv.read_csv(path.with_suffix(".csv"), parse_options=lines)
    assert again.column_names == table.column_names
    assert again["margin"].to_pylist() == table["margin"].to_pylist()
    assert again["text"].to_pylist() == table["text"].to_pylist()
    (elsewhere,) = explain_orderings(finished, out=tmp_path / "out")
    assert elsewhere.path.parent == tmp_path / "out"
    assert elsewhere.path.read_bytes() == path.read_bytes()


def test_the_first_rows_fit_a_pipe_with_all_their_numbers(finished: Config) -> None:
    (found,) = explain_orderings(finished)
    console = Console(width=130, color_system=None)
    with console.capture() as shown:
        console.print(first_rows(found, "less-round_robin", 130))
    title, _, head, _, first, *_ = [line.split() for line in shown.get().splitlines()]
    assert " ".join(title) == "less-round_robin: first 4 of 4 rows"
    assert head == ["rank", "score", "margin", "id", "query_id", "begins"]
    assert first[:5] == ["1", "0.9000", "0.1000", "row-0", "q-a"]
    assert " ".join(first[5:]) == "Add 0 and 0, please."


def test_a_row_that_was_not_chosen_has_its_place_among_all(finished: Config) -> None:
    lines = said(finished, "row-6")
    assert lines[1] == (
        "less-round_robin: not among the first 4; best score 0.3000, by query q-a: place 5 of 7 candidates"
    )
    assert "query q-a" in next(line for line in lines if line.startswith(" row "))


@pytest.mark.parametrize("name", ["row-99", "", "other.jsonl:6", "pool.jsonl:99"])
def test_an_id_that_is_not_in_the_pool_is_bad_input(finished: Config, name: str) -> None:
    with pytest.raises(InputError, match=f"id '{name}': no such row in the pool; "):
        list(explain_row(finished, name))


def test_the_nearest_spelling_is_named(finished: Config) -> None:
    with pytest.raises(InputError, match=r"did you mean row-6\?"):
        list(explain_row(finished, "rwo-6"))


def test_a_refused_row_says_why_and_where(finished: Config) -> None:
    tokens = rows_artifact(finished.artifact_root, "pool", [])
    lost = {"side": "pool", "file": "a.jsonl", "line": "7", "id": "row-3"}
    lost |= {"reason": "overlaps_test", "detail": "exact overlap"}
    unread = {**lost, "id": "", "line": "9", "reason": "bad_json", "detail": "no comma"}
    pq.write_table(pa.Table.from_pylist([lost, unread], QUARANTINE), tokens / "quarantine.parquet")
    refused = "less-round_robin: not among the first 4; not used, "
    lines = said(finished, "row-3")
    assert lines[1] == f"{refused}overlaps_test: exact overlap; a.jsonl, line 7"
    assert any("Add 3 and 3, please." in line for line in lines)
    assert said(finished, "x/a.jsonl:9") == [
        "x/a.jsonl:9",
        f"{refused}bad_json: no comma; a.jsonl, line 9",
    ]


def test_explaining_before_selecting_says_what_to_run(config: Config) -> None:
    for answer in (explain_row(config, "row-0"), explain_orderings(config)):
        with pytest.raises(InputError, match="no ordering yet; `tis-ray select`, or"):
            next(answer)


def test_a_ready_ordering_is_explained_without_scores(finished: Config) -> None:
    root = finished.artifact_root
    ordering = Artifact(root, "ordering-mine-given", {"method": "mine"})
    table = pq.read_table(finished.run_dir / "orderings/less-round_robin/ordering.parquet")
    nothing = pa.nulls(table.num_rows)
    table = table.set_column(2, "score", nothing.cast(pa.float64()))
    table = table.set_column(3, "query", pa.array([-1] * table.num_rows, pa.int32()))
    table = table.set_column(6, "query_id", nothing.cast(pa.string()))
    write_parquet(ordering / "ordering.parquet", table)
    ordering.commit()
    link = finished.run_dir / "orderings" / "mine-given"
    link.symlink_to(os.path.relpath(ordering.path, link.parent))
    assert "mine-given: rank 1 of 4, pulled by no query" in said(finished, "row-0")
    assert "mine-given: not among the first 4" in said(finished, "row-6")
    assert [found.method for found in explain_orderings(finished)] == [
        "less-round_robin",
        "mine-given",
    ]


def test_an_ordering_of_another_version_is_bad_input(finished: Config) -> None:
    path = finished.run_dir / "orderings/less-round_robin/ordering.parquet"
    write_parquet(path.resolve(), pq.read_table(path).drop_columns(["query_id"]))
    with pytest.raises(InputError, match=r"ordering.parquet: has no column `query_id`, so another"):
        list(explain_row(finished, "row-0"))


def test_an_artifact_of_another_schema_is_bad_input(finished: Config) -> None:
    (scores,) = finished.artifact_root.glob("scores-*")
    manifest = json.loads((scores / "manifest.json").read_text())
    (scores / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 1}))
    with pytest.raises(InputError, match="it has schema 1, not 3"):
        list(explain_row(finished, "row-0"))


def test_explaining_does_without_the_scores(finished: Config) -> None:
    """They may have been deleted to save space."""
    for folder in finished.artifact_root.glob("scores-*"):
        folder.rename(folder.with_name("gone"))
    with pytest.raises(InputError, match="no such row"):  # nothing says any more where rows are
        list(explain_row(finished, "row-6"))
    assert said(finished, "row-5")[:2] == [
        "row-5",
        "less-round_robin: rank 4 of 4, score 0.6000, pulled by query q-b",
    ]
    (found,) = explain_orderings(finished)
    assert "margin" not in found.table.column_names


# ---- several studies -------------------------------------------------------------------------


def with_grid(config: Config) -> Config:
    """The same file with a grid of two studies."""
    raw = config.model_dump(mode="json")
    return parse_config({**raw, "grid": {"finetune.epochs": [1, 2]}})


def test_several_studies_are_explained_one_by_one(finished: Config, tmp_path: Path) -> None:
    several = with_grid(finished)
    for study in plan(several).values():
        study.run_dir.parent.mkdir(exist_ok=True)
        study.run_dir.symlink_to(finished.run_dir)
    names = ["tiny-finetune.epochs-1", "tiny-finetune.epochs-2"]
    alone = said(finished, "row-0")
    lines = said(several, "row-0")
    heads = [n for n, line in enumerate(lines) if line.startswith("tiny-")]
    assert [lines[n].split()[0] for n in heads] == names
    assert lines[heads[0] + 1 : heads[1]] == lines[heads[1] + 1 :] == alone
    tables = list(explain_orderings(several, out=tmp_path / "out"))
    assert [(found.study, found.method) for found in tables] == [
        (name, "less-round_robin") for name in names
    ]
    assert [found.path.parent for found in tables] == [tmp_path / "out" / name for name in names]


def test_a_study_of_several_that_has_not_selected_is_named(finished: Config) -> None:
    several = with_grid(finished)
    first, _ = plan(several).values()
    first.run_dir.symlink_to(finished.run_dir)
    (found,) = explain_row(several, "row-0")
    assert (found.study, found.verdicts[0].rank) == ("tiny-finetune.epochs-1", 1)
    assert len(list(explain_orderings(several))) == 1
    assert not_selected(several) == ["tiny-finetune.epochs-2"]
    assert not_selected(finished) == []


def test_explaining_before_any_study_has_selected_is_bad_input(config: Config) -> None:
    with pytest.raises(InputError, match=r"tiny-finetune\.epochs-1: no ordering yet; `tis-ray"):
        list(explain_row(with_grid(config), "row-0"))
