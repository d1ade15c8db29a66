"""Ranks in words: the best first, and "cannot tell" where noise explains them."""

from __future__ import annotations

from tests.report.conftest import changed
from tis_ray.analysis.ranks import rank_tables, ranked_runs
from tis_ray.metrics.description import describe
from tis_ray.report.ranks_section import rank_lines

METHODS = [(r, s) for r in ("less", "rds") for s in ("round_robin", "uot", "knn_kde")]


def lines_of(record):
    metrics = (describe(name) for name in ("test_loss", "query_loss", "exact_match"))
    tables = {
        metric: rank_tables(
            ranked_runs(record.cells, metric), lower_is_better=metric.lower_is_better
        )
        for metric in metrics
    }
    return rank_lines(tables, record.legend)


def test_selectors_and_representations_have_a_table_each(make):
    selectors, representations = lines_of(make(methods=METHODS))
    assert selectors.title == "Selectors under LESS, RDS+"
    assert representations.title == "Representations under round robin, UOT, KNN KDE"
    assert selectors.metrics == ["Test loss", "Query loss", "Exact match"]
    assert {name for name, _ in selectors.rows} == {"round robin", "UOT", "KNN KDE"}
    assert [found.over for found in selectors.verdicts] == ["12 comparisons, 3 seeds"] * 3
    ranks = [float(cells[0].rank) for _, cells in selectors.rows]
    assert ranks == sorted(ranks)
    assert abs(sum(ranks) - 6) < 0.02
    # Two competitors in three seeds: even equal rankings have p = 0.25.
    assert {found.verdict for found in representations.verdicts} == {"cannot tell"}
    assert {found.p for found in representations.verdicts} == {"too few with 3 seeds"}


def test_a_clear_order_differs_and_a_tie_does_not(make):
    record = make(methods=METHODS[:3])
    places = {"round_robin": 0.1, "uot": 0.2, "knn_kde": 0.3}

    def order(cell):
        if cell["selector"] in places:
            cell["test_loss"] = places[cell["selector"]]
            cell["query_loss"] = 0.5

    record.cells = changed(record, order)
    (table,) = lines_of(record)
    assert [(name, cells[0].rank) for name, cells in table.rows] == [
        ("round robin", "1.00"),
        ("UOT", "2.00"),
        ("KNN KDE", "3.00"),
    ]
    first = table.rows[0][1]
    assert first[0].best == "best in 6"
    assert first[0].note == "the same in all 3 seeds"
    assert first[0].interval == ""
    assert [cells[1].rank for _, cells in table.rows] == ["2.00"] * 3
    test_loss, query_loss, _ = table.verdicts
    assert (test_loss.verdict, test_loss.p) == ("they differ", "p = 0.03")  # 1/36
    assert (query_loss.verdict, query_loss.p) == ("cannot tell", "p = 1.00")


def test_one_seed_is_too_few(make):
    (table,) = lines_of(make(methods=METHODS[:3], seeds=(0,)))
    assert {found.p for found in table.verdicts} == {"too few with 1 seed"}


def test_one_method_is_not_ranked(make):
    assert lines_of(make(methods=METHODS[:1])) == []
    assert lines_of(make(methods=[("less", "round_robin"), ("embed", "uot")])) == []
