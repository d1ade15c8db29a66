"""What a method cost beyond random is what it needs, once; its gain points up."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.report.conftest import LEGEND
from tis_ray.analysis import Cell, Comparison, Method, StageCost
from tis_ray.metrics.description import describe
from tis_ray.report import StudyRecord
from tis_ray.report.figures import drawings
from tis_ray.report.gains_section import (
    _spread_out,
    _tick_words,
    _ticks,
    gain,
    gain_tables,
    method_costs,
)

LESS_UOT = Method("less", "uot")


def stage(name, seconds, *needed_by, **more):
    first = name.split()[0]
    kind = first if first in ("warm-up", "features", "scores", "kept") else "ordering"
    facts = {"stage": name, "kind": kind, "artifact": name.replace(" ", "-"), "seconds": seconds}
    needed_by = tuple(Method(*method.split(" + ")) for method in needed_by)
    facts |= {"reused": False, "rows": 100, "quarantined": 2, "needed_by": needed_by}
    return StageCost(**{**facts, **more})


@pytest.fixture
def cascaded():
    """LESS with two selectors behind a cascade of BM25, which is a representation of its own too."""
    methods = [("random", "random"), ("bm25", "uot"), ("less", "uot"), ("less", "knn")]
    return StudyRecord(
        name="s",
        legend=LEGEND,
        cells=[
            Cell(Method(r, s), b, 0, {"test_loss": loss})
            for (r, s), loss in zip(methods, (0.5, 0.6, 0.3, 0.4), strict=True)
            for b in (10, 20)
        ],
        stages=[
            stage("pool", 1000.0),
            stage("scores bm25", 3.0, "bm25"),
            stage("scores bm25", 3.0, "less", "bm25", reused=True),
            stage("kept by bm25", 0.5, "less"),
            stage("warm-up", 20.0, "less", reused=True),
            stage("features less", 40.0, "less", computed=102),
            stage("scores less", 1.0, "less"),
            stage("features less sample", 500.0),
            stage("bm25 uot", 0.25, "bm25 + uot"),
            stage("less uot", 2.0, "less + uot"),
            stage("less knn", 7.0, "less + knn"),
            stage("fine-tune, evaluate", 9000.0),
        ],
    )


def test_each_method_pays_for_what_it_needs_once(cascaded):
    found = {method: cost.seconds for method, cost in method_costs(cascaded).items()}
    shared = 3.0 + 0.5 + 20.0 + 40.0 + 1.0
    assert found == {
        Method("bm25", "uot"): 3.25,
        LESS_UOT: shared + 2.0,
        Method("less", "knn"): shared + 7.0,
    }
    names = [found.stage for found in method_costs(cascaded)[LESS_UOT].stages]
    assert names == [
        "scores bm25", "kept by bm25", "warm-up", "features less", "scores less", "less uot"
    ]  # fmt: skip


def test_what_was_not_computed_here_makes_the_cost_a_lower_bound(cascaded):
    assert all(not cost.lacking for cost in method_costs(cascaded).values())
    cascaded.stages = [
        replace(s, computed=16) if s.stage == "features less" else s for s in cascaded.stages
    ]
    cascaded.config = {"less": {"warmup": {"checkpoints": "/some/where"}}}
    costs = method_costs(cascaded)
    assert costs[Method("bm25", "uot")].words == "3.2 s"
    assert costs[LESS_UOT].words == "at least 66 s"
    assert costs[LESS_UOT].lacking == (
        "features less: 86 of 102 rows were stored",
        "the warm-up was given",
    )
    (table,) = gain_tables(cascaded, cascaded.table())
    assert [row.cost for row in table.rows] == ["3.2 s", "at least 66 s", "at least 72 s"]
    drawn = drawings(cascaded, cascaded.table())["gain_test_loss"].svg
    assert "LESS + KNN (at least)" in drawn


def test_a_record_that_does_not_say_who_needs_what_has_no_gains(cascaded):
    cascaded.stages = [replace(each, needed_by=()) for each in cascaded.stages]
    rows = cascaded.table()
    assert method_costs(cascaded) == {}
    assert gain_tables(cascaded, rows) == []
    assert "gain_test_loss" not in drawings(cascaded, rows)


def test_gains_point_up():
    loss = Comparison(-0.2, -0.3, -0.1, -0.2, 3, 3, 0, 0.01, "better")
    found = gain(describe("test_loss"), loss)
    assert (found.mean, found.low, found.high) == (0.2, 0.1, 0.3)
    share = gain(describe("exact_match"), Comparison(0.2, 0.1, 0.3, 0.2, 3, 3, 0, 0.01, "better"))
    assert (share.mean, share.low, share.high) == (0.2, 0.1, 0.3)
    alone = Comparison(0.1, None, None, 0.1, 1, 0, 1, None, "cannot tell")
    assert gain(describe("test_loss"), alone).low is None


def test_the_table_is_cheapest_first_with_the_gain_at_each_budget(record):
    rows = record.table()
    tables = gain_tables(record, rows)
    assert [table.name for table in tables] == ["Test loss", "Query loss", "Exact match"]
    first = tables[0]
    assert first.budgets == ["100", "500"]
    assert first.training == ["2.0 s", "10 s"]  # 1/50 s a row in the made-up study
    less = next(row for row in first.rows if row.method == "LESS + round robin")
    assert less.cost == "5 min"
    assert less.stages == "features less 5 min, less round_robin 2.0 s"
    versus = (
        next(r for r in rows if r.method.representation == "less").metrics["test_loss"].vs_random
    )
    assert less.gains[0].gain == f"+{-versus.difference:.2f}"
    assert less.gains[0].tone == "better"


def test_a_method_without_a_comparison_has_an_empty_place(cascaded):
    cascaded.cells = [
        c for c in cascaded.cells if (c.method.selector, c.budget) != ("knn", 20)
    ]  # fmt: skip
    (table,) = gain_tables(cascaded, cascaded.table())
    assert table.rows[-1].gains[1] is None
    assert all(row.gains[0] for row in table.rows)
    cascaded.cells = [c for c in cascaded.cells if not c.method.is_random]
    assert gain_tables(cascaded, cascaded.table()) == []


def test_every_method_and_budget_is_a_dot(make):
    methods = [(r, s) for r in ("less", "rds", "embed") for s in ("round_robin", "uot", "knn")]
    record = make(methods=methods)
    drawing = drawings(record, record.table())["gain_exact_match"].svg
    root = ElementTree.fromstring(drawing)
    said = root[1].text
    assert said.count(" at 100 (") == said.count(" at 500 (") == 9
    assert "LESS + round robin, 5 min: +" in said
    for name in ("LESS", "RDS+", "EMBED"):
        for selector in ("round robin", "UOT", "KNN"):
            assert f"{name} + {selector}" in drawing
    assert "budget 100" in drawing
    assert "budget 500" in drawing


def test_dots_of_one_cost_are_drawn_apart_and_inside():
    places, (low, high) = _spread_out([60.0, 60.0, 60.0, 600.0])
    assert low < min(places)
    assert max(places) < high
    assert places == sorted(places)
    assert places[1] == pytest.approx(60.0)  # the middle one of three stays
    assert places[0] * places[2] == pytest.approx(60.0**2)
    assert places[3] == pytest.approx(600.0)
    alone, ends = _spread_out([5.0])
    assert alone == pytest.approx([5.0])
    assert ends[1] / ends[0] == pytest.approx(10)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.1, 80.0, ["3 s", "10 s", "30 s", "1 min"]),
        (0.5, 4000.0, ["1 s", "10 s", "1 min", "10 min", "1 h"]),
        (2e-3, 0.05, ["3 ms", "10 ms", "30 ms"]),
        (4e3, 4e4, ["3 h", "10 h"]),
    ],
)
def test_the_axis_of_time_has_round_numbers(low, high, words):
    assert [_tick_words(tick) for tick in _ticks(low, high)] == words
