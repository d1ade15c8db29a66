"""Screening and constraints on a real run, with words as representation, and a radius with features."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.small import small_study
from tis_ray.data import builtin
from tis_ray.errors import InputError
from tis_ray.stages.cells import plan_cells
from tis_ray.stages.constrain import Constrainer
from tis_ray.stages.tokens import TOKENS_VERSION
from tis_ray.store import Artifact
from tis_ray.store.sides import Side
from tis_ray.study.run import run

pytestmark = pytest.mark.ray

PASSAGE = (
    "A ferry that left the quay at seven met the tide at the old lighthouse and had to wait until "
    "noon, so how long did its passengers watch the gulls?"
)


def row(name: str, prompt: str, source: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "Five hours."}]
    return {"id": name, "source": source, "messages": turns}


@pytest.fixture
def study(ray_cluster, tmp_path):
    """A study of the built-in pool in three sources, with two rows that overlap, two query tasks."""
    pool = [{**r, "source": "abc"[min(i % 7, 2)]} for i, r in enumerate(builtin.pool_rows(120, 0))]
    pool += [row("leaks", f"Please answer: {PASSAGE}", "c"), row("seen", PASSAGE.upper(), "c")]
    queries = [
        {**r, "source": skill}
        for skill in ("reverse_word", "add_numbers")
        for r in builtin.query_rows(skill, 3, 0)
    ]
    tests = builtin.test_rows("reverse_word", 4, 0)
    sides = {"pool": pool, "query": queries, "test": tests}

    def make(**changes: Any) -> dict[str, Any]:
        for side, rows in sides.items():
            text = "\n".join(json.dumps(r) for r in rows)
            (tmp_path / f"{side}.jsonl").write_text(text)
        given = {f"data__{side}": str(tmp_path / f"{side}.jsonl") for side in sides}
        return small_study(tmp_path, representation="bm25", **given, **changes)

    make.sides = sides  # type: ignore[attr-defined]
    return make


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> str:
    """A folder of artifacts for studies of the same rows: tokens and scores are made once."""
    return str(tmp_path_factory.mktemp("artifacts"))


def picked(result: Any, place: int = 0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = result.orderings[place].table().to_pylist()
    return rows


def test_what_repeats_a_test_row_is_dropped_and_what_repeats_a_query_is_listed(study, tmp_path):
    study.sides["test"].append(row("t", PASSAGE, "field"))
    result = run(study(), until="select")
    assert "leaks" not in {r["id"] for r in picked(result)}
    (screen,) = (tmp_path / "artifacts").glob("screen-*")
    found = pq.read_table(screen / "overlaps.parquet").to_pylist()
    assert {(o["pool_id"], o["target_id"], o["side"]) for o in found} == {
        ("leaks", "t", "test"),
        ("seen", "t", "test"),
    }
    lost = [
        r
        for path in (tmp_path / "artifacts").glob("tokens-*/quarantine.parquet")
        for r in pq.read_table(path).to_pylist()
    ]
    assert {(r["id"], r["reason"]) for r in lost} == {
        ("leaks", "overlaps_test"),
        ("seen", "overlaps_test"),
    }
    assert "test row t" in lost[0]["detail"]
    # As a query they are kept by default, and listed.
    study.sides["query"].append(study.sides["test"].pop())
    run(study(name="kept"), until="select")
    screens = [
        pq.read_table(p / "overlaps.parquet").to_pylist()
        for p in (tmp_path / "artifacts").glob("screen-*")
        if p != screen
    ]
    assert [{o["pool_id"] for o in found} for found in screens] == [{"leaks", "seen"}]
    events = (tmp_path / "runs" / "kept" / "events.jsonl").read_text()
    assert "2 overlap with 1 query rows" in events


def test_embeddings_find_what_words_do_not(study, tmp_path):
    study.sides["test"].append(row("t", "How many legs do eight spiders have in total?", "field"))
    study.sides["pool"].append(
        row("near", "In total, how many legs would eight spiders have?", "c")
    )
    run(study(overlap__embedding=0.9), until="select")
    (screen,) = (tmp_path / "artifacts").glob("screen-*")
    found = pq.read_table(screen / "overlaps.parquet").to_pylist()
    assert ("near", "embedding") in {(o["pool_id"], o["kind"]) for o in found}


@pytest.mark.parametrize("what", ["equal", "near"])
def test_rows_that_repeat_an_earlier_row_of_the_pool_are_dropped(study, tmp_path, what):
    text = "Seven brown foxes jump over the lazy dog while nine ravens look on from their old tree."
    study.sides["pool"] += [
        row("first", text, "field"),
        row("same", text, "field"),
        row("changed", text.replace("nine", "ten").upper(), "field"),
    ]
    run(study(overlap__pool=what), until="select")
    (screen,) = (tmp_path / "artifacts").glob("screen-*")
    dropped = {r["id"]: r for r in pq.read_table(screen / "dropped.parquet").to_pylist()}
    assert set(dropped) & {"first", "same", "changed"} == (
        {"same", "changed"} if what == "near" else {"same"}
    )
    assert dropped["same"]["reason"] == "repeats_pool_row"
    assert "equal to pool row first (pool.jsonl line" in dropped["same"]["detail"]


def test_caps_quotas_include_and_exclude_hold_for_every_subset(study, tmp_path):
    plain = picked(run(study(), until="select"))
    everything = {r["id"] for r in study.sides["pool"]}
    unchosen = sorted(everything - {r["id"] for r in plain})[:2]
    excluded = tmp_path / "not.txt"
    excluded.write_text(f"{plain[0]['id']}\n\n{plain[3]['id']}\n")
    config = study(
        budget=[8, 12],
        seed=[0, 1],
        constraints={
            "include": unchosen,
            "exclude": str(excluded),
            "cap": {"c": 0.5},
            "quota": {"a": 3},
        },
    )
    result = run(config, until="select")
    from tis_ray.config import parse_config

    parsed = parse_config(config)
    cells = [c for c in plan_cells(parsed, pool_side(tmp_path), result.orderings) if c.selector]
    assert len(cells) == 8
    facts = pool_rows(tmp_path)
    for cell in cells:
        rows = [facts[place] for place in cell.positions]
        sources = Counter(r["source"] for r in rows)
        assert len(rows) == cell.budget
        assert sources["c"] <= cell.budget / 2
        assert sources["a"] >= 3
        assert set(unchosen) <= {r["id"] for r in rows}
        assert not {plain[0]["id"], plain[3]["id"]} & {r["id"] for r in rows}
    table = picked(result)
    assert [r["id"] for r in table[:2]] == sorted(unchosen, key=[r["id"] for r in facts].index)
    # A row that had to be in says which query it is nearest to, and how near.
    assert all(r["query_id"] is not None and np.isfinite(r["score"]) for r in table)


def test_token_budgets_say_what_they_came_to(study, tmp_path):
    result = run(study(budget=[300, 700], budget_unit="tokens"), until="select")
    filled = result.orderings[0].filled()
    lengths = {r["row"]: len(r["input_ids"]) for r in pool_rows(tmp_path)}
    sizes = [lengths[r["index"]] for r in picked(result)]
    for budget, found in filled.items():
        assert found.amount == sum(sizes[: found.rows]) <= budget
    assert filled[700].rows == len(sizes) > filled[300].rows


def test_tasks_take_turns_and_weights_pull(study, artifacts):
    shares = {"reverse_word": 3, "add_numbers": 1}
    config = study(constraints__targets=shares, artifacts=artifacts)
    rows = picked(run(config, until="select"))
    assert Counter(r["query_id"].split(".")[0] for r in rows) == {
        "reverse_word": 9,
        "add_numbers": 3,
    }
    heavy = study.sides["query"][0]["id"]
    config = study(name="w", constraints__query_weights={heavy: 5}, artifacts=artifacts)
    rows = picked(run(config, until="select"))
    assert Counter(r["query_id"] for r in rows)[heavy] >= 5


def test_a_radius_keeps_near_duplicates_out(study, tmp_path):
    study.sides["pool"] += [{**r, "id": f"again-{r['id']}"} for r in study.sides["pool"][:60]]
    config = study() | {"representation": "embed"}
    plain = run(config, until="select")
    config["constraints"] = {"radius": 0.02}
    result = run(config, until="select")
    twice = [r["id"].removeprefix("again-") for r in picked(plain)]
    once = [r["id"].removeprefix("again-") for r in picked(result)]
    assert len(set(once)) == len(once) == 12 > len(set(twice))
    assert result.orderings[0].filled()[12].near > 0
    with pytest.raises(InputError, match="radius compares pool rows with each other"):
        run(study(name="no-features", constraints__radius=0.02), until="select")


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"cap": {"flam": 3}}, "constraints.cap: 'flam' is not a source of the pool; choose from"),
        ({"cap": {"*": 1}}, "12 examples cannot be reached: 3 can, 9 are missing"),
        ({"quota": {"a": 11, "b": 9}}, "8 more than the budget of 12"),
        ({"include": ["nobody"]}, "constraints.include: 'nobody' is not the id of a pool row"),
        ({"exclude": ["nobody"]}, "constraints.exclude: 'nobody' is not the id of a pool row"),
        ({"include": ["seen"], "exclude": ["seen"]}, "'seen' cannot be used (excluded)"),
        ({"targets": {"add_numbers": 1}}, "the queries of source 'reverse_word' have no share"),
        ({"query_weights": {"add_number": 2}}, "did you mean 'add_numbers'?"),
    ],
)
def test_what_cannot_be_says_why(study, artifacts, constraints, message):
    with pytest.raises(InputError) as error:
        run(study(constraints=constraints, artifacts=artifacts), until="select")
    assert message in str(error.value)


def pool_side(folder: Path) -> Side:
    """Open the pool of the last constrained study in a folder."""
    artifacts = folder / "artifacts"
    tokens = max(
        (p for p in artifacts.glob("tokens-*") if is_pool(p)), key=lambda p: p.stat().st_mtime
    )
    manifest = json.loads((tokens / "manifest.json").read_text())
    artifact = Artifact(artifacts, "tokens", manifest["inputs"], TOKENS_VERSION)
    assert artifact.path == tokens
    return Side("pool", artifact, artifact, manifest["details"]["shards"])


def is_pool(tokens: Path) -> bool:
    return json.loads((tokens / "manifest.json").read_text())["inputs"]["role"] == "pool"


def pool_rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pool_side(folder).examples()
    return rows


def test_the_constrainer_asks_for_longer_orderings_only_as_needed(study, tmp_path):
    from tis_ray.config import parse_config

    run(study(), until="select")
    asked: list[int] = []
    constrainer = Constrainer(
        parse_config(study(constraints={"cap": {"c": 2}})), pool_side(tmp_path)
    )

    def ranked(length: int) -> np.ndarray:
        asked.append(length)
        return constrainer.rows[:length]

    rows, (filled,) = constrainer.fill(ranked, len(constrainer.rows))
    assert asked[0] == 12
    assert asked == [12 * 2**k for k in range(len(asked))]
    assert len(rows) == 12
    assert filled.capped > 0


def test_the_quantile_experiment_trains_on_the_beginning_of_each_part(study, tmp_path):
    config = study(quantiles={"bins": 3, "rows": 6, "focus": True}, budget=6)
    config["evaluation"]["metrics"] = []
    result = run(config)
    cells = result.quantiles
    assert cells == result.record.quantiles
    assert [cell.quantile for cell in cells] == [(1,), (2,), (3,), (1, 1), (1, 2), (1, 3)]
    # The first quantile begins as the budget does: the same cell, trained once.
    best = next(c for c in result.cells if c.method.representation == "bm25")
    assert cells[0].fingerprint == cells[3].fingerprint == best.fingerprint
    assert len({cell.fingerprint for cell in cells}) == 5
    page = (tmp_path / "runs" / "small" / "report" / "index.html").read_text()
    assert "Is nearer data better data?" in page
    assert "5 parts" not in page
    assert "3 parts of the first quantile" in page


def test_tasks_share_the_pool_and_get_one_page(study, tmp_path):
    config = study(budget=[4, 8], seed=[0, 1])
    both = {side: config["data"].pop(side) for side in ("query", "test")}
    leak = tmp_path / "leak.jsonl"
    leak.write_text(json.dumps(row("t", PASSAGE, "field")))
    config["tasks"] = {"plain": both, "leaky": {**both, "test": str(leak)}}
    config["evaluation"]["metrics"] = []
    result = run(config)
    assert [study.run_dir.name for study in result.studies] == ["small-plain", "small-leaky"]
    # What repeats a test row of one task is in no task's pool, so the pool is made once.
    assert len([p for p in (tmp_path / "artifacts").glob("tokens-*") if is_pool(p)]) == 1
    for study_of_task in result.studies:
        lost = {r["id"] for r in study_of_task.record.quarantined if r["reason"] == "overlaps_test"}
        assert lost == {"leaks", "seen"}
    page = result.report.read_text()
    assert "small-plain" in page
    tables = json.loads((tmp_path / "runs" / "small" / "report" / "tables.json").read_text())
    assert tables["budget"]
