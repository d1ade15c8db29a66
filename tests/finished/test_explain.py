"""What `explain` and `status` say of a run, read from a run folder made by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from tis_ray.config import Config, parse_config
from tis_ray.errors import InputError
from tis_ray.finished.explain import explain_orderings, explain_row, status_lines
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
        "less-round_robin: rank 1 of 4, score 0.9000, pulled by query q-a, margin 0.1000; source web"
    ]
    # Rows 0, 1 and 2 had better ranks, so what the query could have had instead is row 6, at 0.3.
    assert list(explain_row(finished, "row-5")) == [
        "less-round_robin: rank 4 of 4, score 0.6000, pulled by query q-b, margin 0.3000; source web"
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


def test_explaining_before_selecting_says_what_to_run(config: Config) -> None:
    for answer in (explain_row(config, "row-0"), explain_orderings(config)):
        with pytest.raises(InputError, match="no ordering yet; run `tis-ray select` first"):
            next(answer)


def test_explaining_does_without_the_scores(finished: Config) -> None:
    """They may have been deleted to save space."""
    for folder in finished.artifact_root.glob("scores-*"):
        folder.rename(folder.with_name("gone"))
    assert list(explain_row(finished, "row-6")) == ["less-round_robin: not among the first 4"]
    (line,) = explain_row(finished, "row-5")
    assert line == "less-round_robin: rank 4 of 4, score 0.6000, pulled by query q-b; source web"
    ((_, table, _),) = explain_orderings(finished)
    assert "margin" not in table.column_names


# ---- status ----------------------------------------------------------------------------------


def events(config: Config, *lines: object) -> list[str]:
    config.run_dir.mkdir(parents=True, exist_ok=True)
    text = "".join(
        line if isinstance(line, str) else json.dumps({"time": 1.7e9, **line}) + "\n"  # type: ignore[dict-item]
        for line in lines
    )
    (config.run_dir / "events.jsonl").write_text(text)
    return list(status_lines(config))


def start(pid: int = 0, command: str = "tis-ray run") -> dict[str, object]:
    return {"event": "start", "until": "report", "command": command, "pid": pid}


def stage(name: str, reused: bool = False, note: str = "") -> dict[str, object]:
    return {
        "event": "stage",
        "stage": name,
        "artifact": "x",
        "seconds": 1.25,
        "reused": reused,
        "rows": 7,
        "quarantined": 1,
        "device": "cpu",
        "peak_mb": 5.0,
        "note": note,
    }


def dead_pid() -> int:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_status_tells_the_last_start_stage_by_stage(config: Config) -> None:
    lines = events(
        config,
        start(command="tis-ray featurize"),
        stage("tokens pool"),
        {"event": "failed", "error": "InputError: budget"},
        start(),
        stage("tokens pool", reused=True),
        stage("warm-up", note="continued after epoch 1"),
        {"event": "cells", "total": 9, "reused": 2, "to_train": 7},
        {"event": "done", "seconds": 3.0},
    )
    assert lines[0].startswith("tiny: start 2, 20")
    assert lines[0].endswith(": tis-ray run")
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "done tokens pool 7 rows reused",
        "done warm-up 7 rows 1.2 s continued after epoch 1",
        "cells 9 in all, 2 reused",
        "done",
    ]


def test_status_tells_how_a_run_failed(config: Config) -> None:
    lines = events(config, start(), {"event": "failed", "error": "RuntimeError: no memory"})
    assert lines[-1].split(maxsplit=1) == ["failed", "RuntimeError: no memory"]


def test_status_tells_a_running_study_from_one_that_was_killed(config: Config) -> None:
    assert events(config, start(os.getpid()))[-1].strip() == "running"
    assert (
        "stopped before its end; `tis-ray run` continues it"
        in events(config, start(dead_pid()), stage("warm-up"))[-1]
    )


def test_status_reads_past_a_half_written_line(config: Config) -> None:
    lines = events(config, start(dead_pid()), stage("warm-up"), '{"time": 1.7e9, "eve')
    assert "warm-up" in lines[1]
    assert "stopped before its end" in lines[-1]


def test_status_of_nothing(config: Config) -> None:
    assert "not started; run `tis-ray run`" in next(status_lines(config))
    assert "holds no start" in events(config, '{"time"')[0]
