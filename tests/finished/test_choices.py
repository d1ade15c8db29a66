"""What is known of the selected rows of a real study, read from its files; each against plain numpy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.small import small_study
from tis_ray.analysis.margins import near_duplicates
from tis_ray.config import parse_config
from tis_ray.errors import InputError
from tis_ray.finished import choices as chosen_module
from tis_ray.finished.choices import choices, duplicates_in_pool, explained, feature_facts
from tis_ray.finished.explain import explain_row
from tis_ray.finished.lineage import Lineage, trace
from tis_ray.report import StudyRecord
from tis_ray.store.feature_views import combine

pytestmark = pytest.mark.ray  # the study behind it


@pytest.fixture(scope="module")
def lineage(undisturbed: Path) -> Lineage:
    return trace(undisturbed / "runs/small/orderings/less-round_robin", "less-round_robin")


@pytest.fixture(scope="module")
def scores(undisturbed: Path) -> np.ndarray:
    folder = undisturbed / "runs/small/scores/less"
    return np.concatenate([np.load(p) for p in sorted(folder.glob("scores-*.npy"))], axis=1)


def values(lineage: Lineage, side: str) -> np.ndarray:
    assert lineage.features is not None
    shards = range(lineage.features.shards[side])
    return np.concatenate([lineage.features.read(side, shard)[0] for shard in shards])


def test_margins_are_over_what_the_query_could_have_had_instead(
    lineage: Lineage, scores: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = explained(lineage)
    picked, pulled = (lineage.table[name].to_pylist() for name in ("index", "query"))
    for rank, (row, query) in enumerate(zip(picked, pulled, strict=True)):
        rest = np.setdiff1d(np.arange(160), picked[: rank + 1])
        margin = float(scores[query, row]) - float(scores[query, rest].max())
        assert table["margin"][rank].as_py() == pytest.approx(margin, abs=1e-7)
        assert margin >= 0  # in round robin
        assert table["query_score"][rank].as_py() == table["score"][rank].as_py()
    monkeypatch.setattr(chosen_module, "BLOCK_VALUES", 1)  # one query after another
    assert explained(lineage).equals(table)


def test_checkpoints_add_up_to_the_score(lineage: Lineage) -> None:
    table = explained(lineage)
    assert lineage.features is not None
    parts = np.stack([table[f"checkpoint_{c}"].to_numpy() for c in (1, 2)], axis=1)
    assert "checkpoint_3" not in table.column_names
    assert parts.sum(axis=1) == pytest.approx(table["score"].to_numpy(), abs=1e-6)
    query_MCK, pool_NCK = values(lineage, "query"), values(lineage, "pool")
    row, query = lineage.table["index"][3].as_py(), lineage.table["query"][3].as_py()
    first = lineage.features.weights_C[0] * (query_MCK[query, 0] @ pool_NCK[row, 0])
    assert parts[3, 0] == pytest.approx(first, abs=1e-6)


def test_near_duplicates_among_the_selected_and_in_the_pool(lineage: Lineage) -> None:
    assert lineage.features is not None
    pool_ND = combine(values(lineage, "pool"), lineage.features.weights_C)
    picked = lineage.table["index"].to_numpy()
    ids = lineage.table["id"].to_pylist()
    cosines = pool_ND @ pool_ND.T
    np.fill_diagonal(cosines, -2)
    near = float(np.sort(cosines[picked[0]])[-3]) - 1e-5  # so that there are three
    table = explained(lineage, near)
    expected = near_duplicates(pool_ND[picked], near)
    assert table["duplicates"].to_pylist() == expected.counts.tolist()
    assert table["nearest_id"].to_pylist() == [ids[place] for place in expected.nearest]
    found = duplicates_in_pool(lineage, int(picked[0]), near)
    assert found is not None
    nearest = np.argsort(-cosines[picked[0]])[:3]
    assert [row for row, _ in found] == nearest.tolist()
    assert [value for _, value in found] == pytest.approx(cosines[picked[0], nearest], abs=1e-5)
    alone = feature_facts(lineage, slice(2, 3))
    assert alone is not None
    assert alone.near.nearest.tolist() == [-1]


def test_an_id_is_explained_with_its_duplicates(undisturbed: Path, lineage: Lineage) -> None:
    config = parse_config(small_study(undisturbed))
    first = lineage.table["id"][0].as_py()
    (found,) = explain_row(config, first, near=-1.0)  # so that all are near
    (chosen,), (near,) = found.verdicts, found.near
    table = explained(lineage)
    assert (chosen.rank, chosen.of) == (1, 12)
    assert chosen.score == lineage.table["score"][0].as_py()
    assert chosen.query_id == lineage.table["query_id"][0].as_py()
    assert chosen.margin == pytest.approx(table["margin"][0].as_py(), abs=1e-7)
    assert chosen.checkpoints == pytest.approx(
        [table[f"checkpoint_{c}"][0].as_py() for c in (1, 2)], abs=1e-7
    )
    assert near.rows is not None
    assert len(near.rows) == 159
    ranks = {row.id: row.rank for row in near.rows if row.rank}
    assert ranks == {row["id"]: n for n, row in enumerate(table.to_pylist()[1:], 2)}
    assert all(row.begins for row in near.rows)


def test_an_unchosen_row_has_its_best_query(
    undisturbed: Path, lineage: Lineage, scores: np.ndarray
) -> None:
    assert lineage.pool is not None
    chosen = lineage.table["index"].to_pylist()
    row = next(row for row in range(160) if row not in chosen)
    config = parse_config(small_study(undisturbed))
    name = lineage.pool.read([row])[row]["id"]
    (found,) = explain_row(config, name, near=0.999999)
    (standing,), (near,) = found.verdicts, found.near
    best = scores[:, row].max()
    assert (standing.rank, standing.query) == (None, scores[:, row].argmax())
    assert standing.place == 1 + (scores.max(axis=0) > best).sum()
    assert sum(standing.checkpoints) == pytest.approx(best, abs=1e-6)
    assert near.rows == []
    assert found.queries[standing.query_id]["messages"]


def test_explaining_starts_no_cluster(undisturbed: Path) -> None:
    study = json.dumps(small_study(undisturbed))
    command = [sys.executable, "-c", _WITHOUT_CLUSTER, study]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "12"]


_WITHOUT_CLUSTER = """
import json, sys
from tis_ray.config import parse_config
from tis_ray.finished.explain_all import explain_orderings
(found,) = explain_orderings(parse_config(json.loads(sys.argv[1])))
import ray
print(ray.is_initialized(), found.table.num_rows)
"""


def test_a_damaged_feature_file_says_what_to_do(copied: Path, lineage: Lineage) -> None:
    for file in copied.glob("artifacts/store-less-*/pool/*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
    config = parse_config(small_study(copied))
    with pytest.raises(InputError, match="`tis-ray run` computes its rows again"):
        list(explain_row(config, lineage.table["id"][0].as_py()))


def test_a_deleted_store_leaves_margins(copied: Path) -> None:
    shutil.rmtree(next(copied.glob("artifacts/store-less-*")))
    bare = trace(copied / "runs/small/orderings/less-round_robin", "less-round_robin")
    assert bare.features is None
    assert {"margin", "query_score"} < {*explained(bare).column_names}
    assert "duplicates" not in explained(bare).column_names


def test_the_page_has_what_is_known(undisturbed: Path, lineage: Lineage) -> None:
    record = StudyRecord.load(undisturbed / "runs/small/report/record.json")
    (shown,) = record.orderings
    found = choices(lineage)
    assert found is not None
    assert shown["scores"] == found.facts.to_dict()
    assert [row["margin"] for row in shown["rows"]] == pytest.approx(found.margin_B)
    assert [row["duplicates"] for row in shown["rows"]] == explained(lineage)[
        "duplicates"
    ].to_pylist()
    assert record.agreement is None  # there is nothing to compare
    ranked = pq.read_table(undisturbed / "runs/small/orderings/less-round_robin/ordering.parquet")
    assert [row["nearest_rank"] for row in shown["rows"]] == [
        ranked["id"].to_pylist().index(name)
        for name in explained(lineage)["nearest_id"].to_pylist()
    ]
