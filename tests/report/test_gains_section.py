"""What a method cost beyond random is what it needs, once; its gain points up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report.conftest import LEGEND
from tis_ray.analysis import Cell, Comparison, Method, StageCost
from tis_ray.metrics.description import describe
from tis_ray.report import StudyRecord
from tis_ray.report.figures import drawings
from tis_ray.report.gains_section import (
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
    spec = drawings(cascaded, cascaded.table())["gain_test_loss"].spec
    assert "LESS + KNN (at least)" in {dot["method"] for dot in spec["data"]["values"]}


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
    assert less.gains[0].gain == f"+{-versus.difference:.3f}"
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
    rows = record.table()
    drawing = drawings(record, rows)["gain_exact_match"]
    dots = drawing.spec["data"]["values"]
    assert len({(dot["method"], dot["panel"]) for dot in dots}) == len(dots) == 9 * 2
    row = next(r for r in rows if r.label == "RDS+ + UOT" and r.budget == 500)
    (dot,) = (d for d in dots if (d["method"], d["panel"]) == ("RDS+ + UOT", "budget 500"))
    assert dot["mean"] == pytest.approx(100 * row.metrics["exact_match"].vs_random.difference)
    assert dot["seconds"] == method_costs(record)[row.method].seconds
    svg = drawing.svg
    for words in ("budget 100", "budget 500", "LESS", "RDS+", "EMBED", "round robin", "UOT", "KNN"):
        assert words in svg
