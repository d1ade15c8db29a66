"""What `explain` says of a run, read from a run folder made by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from tis_ray.config import Config, parse_config, plan
from tis_ray.errors import InputError
from tis_ray.finished.explain import explain_orderings, explain_row, not_selected
from tis_ray.store import Artifact, write_npy, write_parquet

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


@pytest.fixture
def finished(config: Config) -> Config:
    """The study with one ordering of four rows, and everything that lies behind it."""
    root = config.artifact_root
    tokens = Artifact(root, "tokens", {})
    for shard, rows in enumerate(([0, 1, 2], [4, 5], [6, 7])):
        table = pa.table({"row": rows, "id": [f"row-{row}" for row in rows]})
        write_parquet(tokens / f"tokens-{shard:05d}.parquet", table)
    tokens.commit()
    scores = Artifact(root, "scores-less", {"pool": tokens.fingerprint})  # features were streamed
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


def test_a_chosen_row_has_rank_score_query_and_margin(finished: Config) -> None:
    assert list(explain_row(finished, "row-0")) == [
        (
            "less-round_robin: rank 1 of 4, score 0.9000, pulled by query q-a, margin 0.1000; source web; "
            "pool.jsonl, line 1"
        )
    ]
    # Rows 0, 1 and 2 had better ranks, so what the query could have had instead is row 6, at 0.3.
    assert list(explain_row(finished, "row-5")) == [
        (
            "less-round_robin: rank 4 of 4, score 0.6000, pulled by query q-b, margin 0.3000; source web; "
            "pool.jsonl, line 6"
        )
    ]


def test_the_table_of_all_selected_rows_is_written_twice(finished: Config, tmp_path: Path) -> None:
    ((method, table, path),) = explain_orderings(finished)
    assert (method, path) == (
        "less-round_robin",
        finished.run_dir / "explain" / f"{method}.parquet",
    )
    assert table["id"].to_pylist() == ["row-0", "row-1", "row-2", "row-5"]
    # Row 1 over row 5, which came later; row 2 over row 6.
    assert table["margin"].to_pylist() == pytest.approx([0.1, 0.1, 0.5, 0.3])
    assert table["query_score"].to_pylist() == pytest.approx([0.9, 0.7, 0.8, 0.6])
    assert pq.read_table(path).equals(table)
    again = csv.read_csv(path.with_suffix(".csv"))
    assert again.column_names == table.column_names
    assert again["margin"].to_pylist() == table["margin"].to_pylist()
    ((_, _, elsewhere),) = explain_orderings(finished, out=tmp_path / "out")
    assert elsewhere.parent == tmp_path / "out"
    assert elsewhere.read_bytes() == path.read_bytes()


def test_a_row_that_was_not_chosen_has_its_place_among_all(finished: Config) -> None:
    assert list(explain_row(finished, "row-6")) == [
        "less-round_robin: not among the first 4; best score 0.3000, place 5 of 7"
    ]


@pytest.mark.parametrize("name", ["row-3", "row-99", ""])
def test_an_id_that_is_not_in_the_pool_is_bad_input(finished: Config, name: str) -> None:
    with pytest.raises(InputError, match=f"id '{name}': no such usable row in the pool"):
        list(explain_row(finished, name))


def test_a_refused_row_says_why_and_where(finished: Config) -> None:
    (tokens,) = Path(finished.artifacts).glob("tokens-*")
    lost = {"side": "pool", "file": "a.jsonl", "line": "7", "id": "row-3"}
    lost |= {"reason": "overlaps_test", "detail": "exact overlap"}
    pq.write_table(pa.Table.from_pylist([lost, {**lost, "id": ""}]), tokens / "quarantine.parquet")
    assert list(explain_row(finished, "row-3")) == [
        "less-round_robin: not among the first 4; not used, overlaps_test: exact overlap; a.jsonl, line 7"
    ]


def test_explaining_before_selecting_says_what_to_run(config: Config) -> None:
    for answer in (explain_row(config, "row-0"), explain_orderings(config)):
        with pytest.raises(InputError, match="no ordering yet; run `tis-ray select` first"):
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
    assert list(explain_row(finished, "row-0"))[1] == (
        "mine-given: rank 1 of 4, pulled by no query; source web; pool.jsonl, line 1"
    )
    assert list(explain_row(finished, "row-6"))[1] == "mine-given: not among the first 4"
    assert [method for method, _, _ in explain_orderings(finished)] == [
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
    assert list(explain_row(finished, "row-6")) == ["less-round_robin: not among the first 4"]
    (line,) = explain_row(finished, "row-5")
    assert line == (
        "less-round_robin: rank 4 of 4, score 0.6000, pulled by query q-b; source web; "
        "pool.jsonl, line 6"
    )
    ((_, table, _),) = explain_orderings(finished)
    assert "margin" not in table.column_names


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
    (line,) = explain_row(finished, "row-0")
    assert list(explain_row(several, "row-0")) == [f"{name}: {line}" for name in names]
    tables = list(explain_orderings(several, out=tmp_path / "out"))
    assert [method for method, _, _ in tables] == [f"{name}: less-round_robin" for name in names]
    assert [path.parent for _, _, path in tables] == [tmp_path / "out" / name for name in names]


def test_a_study_of_several_that_has_not_selected_is_named(finished: Config) -> None:
    several = with_grid(finished)
    first, _ = plan(several).values()
    first.run_dir.symlink_to(finished.run_dir)
    said = list(explain_row(several, "row-0"))
    assert said[0].startswith("tiny-finetune.epochs-1: less-round_robin: rank 1 of 4")
    assert said[1:] == ["tiny-finetune.epochs-2: no ordering yet"]
    assert len(list(explain_orderings(several))) == 1
    assert not_selected(several) == ["tiny-finetune.epochs-2"]
    assert not_selected(finished) == []


def test_explaining_before_any_study_has_selected_is_bad_input(config: Config) -> None:
    with pytest.raises(InputError, match=r"tiny-finetune\.epochs-1: no ordering yet; run `tis-ray"):
        list(explain_row(with_grid(config), "row-0"))
