"""Lengths of subsets: what is counted, and how it is told."""

from __future__ import annotations

import numpy as np

from tests.report.conftest import LEGEND
from tis_ray.analysis import Method
from tis_ray.analysis.study_values import POOL, Part
from tis_ray.report import StudyRecord, build_report
from tis_ray.report.lengths_section import length_facts, length_figure, length_table


def test_quantiles_and_sums_by_hand() -> None:
    found = length_facts(np.arange(10, 111), np.array([1, 2, 3]))
    assert found["quantiles"] == [15.0, 35.0, 60.0, 85.0, 105.0]
    assert (found["rows"], found["tokens"], found["response_tokens"]) == (101, 6060, 6)
    assert found["response_quantiles"][2] == 2.0


def test_every_subset_has_a_line_and_a_bar(tmp_path) -> None:
    record = StudyRecord(
        "s",
        lengths={
            POOL: length_facts(np.array([100, 300]), np.array([10, 30])),
            Part(method=Method("less", "round_robin"), budget=1000): length_facts(
                np.array([50]), np.array([5])
            ),
        },
        legend=LEGEND,
    )
    assert length_table(record) == [
        {
            "name": "Pool",
            "rows": "2",
            "tokens": "400",
            "response": "40",
            "each": "200 [110, 290]",
            "response_each": "20 [11, 29]",
        },
        {
            "name": "LESS + round robin @ 1,000",
            "rows": "1",
            "tokens": "50",
            "response": "5",
            "each": "50 [50, 50]",
            "response_each": "5 [5, 5]",
        },
    ]
    figure = length_figure(record)
    bars = {bar["part"]: bar for bar in figure.spec["data"]["values"]}
    assert bars["LESS + round robin @ 1,000"]["text"] == "5 [5, 5]"
    assert (bars["Pool"]["low"], bars["Pool"]["middle"]) == (11.0, 20.0)
    assert "LESS + round robin @ 1,000" in figure.svg
    assert "Tokens of every subset" in build_report(record, tmp_path).read_text()
    assert length_figure(StudyRecord("s")).spec == {}
