"""The search for settings on the page: its order, and every outcome in words."""

from __future__ import annotations

from tis_ray.report import StudyRecord, build_report
from tis_ray.report.search_section import search_table


def trial(rate: float, losses: list, diverged: str | None = None) -> dict:
    settings = {"learning_rate": rate}
    return {"settings": settings, "query_loss": losses, "diverged": diverged, "peak_mb": 1.0}


def test_the_chosen_one_is_first_and_the_rest_by_how_far_they_came(tmp_path) -> None:
    trials = [
        trial(1.0, [None], "step 3: the loss is nan"),
        trial(0.1, [2.0]),
        trial(0.3, [1.5, 1.25]),
        trial(0.2, [1.5, 1.125]),
        trial(0.4, []),
    ]
    found = {"best": {"learning_rate": 0.2}, "epochs": 2, "trials": trials}
    record = StudyRecord("s", search=found)  # type: ignore[arg-type]
    lines = search_table(record)
    assert [(line["epochs"], line["loss"], line["outcome"]) for line in lines] == [
        ("2 of 2", "1.125", "chosen"),
        ("2 of 2", "1.250", "ended"),
        ("1 of 2", "2.000", "stopped early"),
        ("1 of 2", "none", "diverged"),
        ("0 of 2", "none", "stopped early"),
    ]
    assert "learning_rate 0.2" in build_report(record, tmp_path).read_text()
    assert search_table(StudyRecord("s")) == []
