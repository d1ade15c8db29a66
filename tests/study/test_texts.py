"""The record has the texts of all selected rows, and what the trained models answered."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tis_ray.report import StudyRecord
from tis_ray.stages.cell_evaluation import NO_TEMPLATE

pytestmark = pytest.mark.ray


@pytest.fixture
def record(undisturbed: Path) -> StudyRecord:
    return StudyRecord.load(undisturbed / "runs/small/report/record.json")


def test_all_selected_rows_have_their_text_id_and_place(undisturbed: Path, record: StudyRecord):
    ranked = pq.read_table(undisturbed / "runs/small/orderings/less-round_robin/ordering.parquet")
    (ordering,) = record.orderings
    assert [row["index"] for row in ordering["rows"]] == ranked["index"].to_pylist()
    assert [row["query"] for row in ordering["rows"]] == ranked["query"].to_pylist()
    assert [row["score"] for row in ordering["rows"]] == pytest.approx(
        ranked["score"].to_pylist(), rel=1e-6
    )
    rows = {row["index"]: row for row in record.texts["rows"]}
    assert [rows[i]["id"] for i in ranked["index"].to_pylist()] == ranked["id"].to_pylist()
    assert all(row["text"].startswith("user: ") and row["line"] for row in rows.values())
    queries = {query["query"] for query in record.texts["queries"]}
    assert queries == set(ranked["query"].to_pylist())


def test_answers_are_those_of_the_cells(undisturbed: Path, record: StudyRecord):
    (found,) = record.answers
    assert (found["name"], found["metric"], found["left_out"]) == ("test rows", "exact_match", 0)
    assert all(row["prompt"].startswith("user: ") for row in found["rows"])
    cells = {(cell.method.representation, cell.budget): cell for cell in record.cells}
    assert len(found["methods"]) == len(cells) == 4
    for method in found["methods"]:
        cell = cells[method["representation"], method["budget"]]
        plain = "no template" in method["representation"]
        folder = Path(cell.artifact) / (NO_TEMPLATE if plain else "")
        rows = pq.read_table(folder / "test_rows.parquet").to_pydict()
        assert [row["id"] for row in found["rows"]] == rows["id"]
        assert [row["label"] for row in found["rows"]] == rows["label"]
        assert method["values"] == rows["exact_match"]
        assert method["answers"] == [[[answer, 1]] for answer in rows["answer"]]
        assert sum(method["values"]) / len(rows["id"]) == pytest.approx(cell.metrics["exact_match"])
