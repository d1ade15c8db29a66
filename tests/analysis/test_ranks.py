"""Who comes first: ranks under equal conditions, and when they say nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.analysis import Cell, ranks
from tis_ray.analysis.ranks import exchange_p
from tis_ray.metrics.description import describe


def rank_tables(cells, metric):
    about = describe(metric)
    runs = ranks.ranked_runs([Cell.from_json(cell) for cell in cells], about)
    return ranks.rank_tables(runs, lower_is_better=about.lower_is_better)


def test_over_the_seeds_of_one_study_there_is_no_p_value():
    losses = {
        ("less", name): runs(*(0.1 * i + 0.01 * r for r in range(4))) for i, name in enumerate("ab")
    }
    own = ranks.ranked_runs([Cell.from_json(cell) for cell in cells(losses)], describe("test_loss"))
    (found,) = ranks.rank_tables(own, lower_is_better=True, independent=False)
    assert [(line.name, line.rank.mean, line.rank.low) for line in found.ranks] == [
        ("a", 1, None), ("b", 2, None)
    ]  # fmt: skip
    assert (found.p_value, found.differ) == (None, False)


def cells(losses):
    """Cells from {(representation, selector): {(budget, seed): loss}}."""
    return [
        {"representation": r, "selector": s, "budget": b, "seed": seed, "test_loss": loss}
        for (r, s), runs in losses.items()
        for (b, seed), loss in runs.items()
    ]


RUNS = [(50, 0), (100, 0), (50, 1), (100, 1)]


def runs(*losses):
    return dict(zip(RUNS, losses, strict=True))


def test_ranks_by_hand_with_a_tie():
    # Ranks of a, b, c in the four runs: 1 2 3, 1 3 2, 1.5 1.5 3, 3 1 2.
    losses = {
        ("less", "a"): runs(0.1, 0.1, 0.2, 0.9),
        ("less", "b"): runs(0.2, 0.3, 0.2, 0.1),
        ("less", "c"): runs(0.3, 0.2, 0.5, 0.5),
        ("random", "random"): runs(0.0, 0.0, 0.0, 0.0),
        ("zero_shot", None): {(0, None): 0.0},
    }
    (found,) = rank_tables(cells(losses), "test_loss")
    assert (found.of, found.within, found.comparisons, found.blocks) == (
        "selector", ("less",), 4, 2
    )  # fmt: skip
    means = {line.name: line.rank.mean for line in found.ranks}
    assert means == pytest.approx({"a": 6.5 / 4, "b": 7.5 / 4, "c": 10 / 4})
    assert [line.name for line in found.ranks] == ["a", "b", "c"]
    assert {line.name: line.best for line in found.ranks} == {"a": 3, "b": 2, "c": 0}
    # Seed means of a, b, c: 1, 2.5, 2.5 and 2.25, 1.25, 2.5. Their sums 3.25, 3.75, 5 spread by 1.625
    # about 4. Of the six ways to give the second seed's ranks to names, two have a at 2.25 (1.625 both
    # times), two a at 1.25 (4.625) and two a at 2.5 (0.875): four spread as far.
    assert found.p_value == pytest.approx(4 / 6)
    assert not found.differ
    # Student's interval of two seed means reaches beyond the ranks that there are.
    assert (found.ranks[0].rank.low, found.ranks[0].rank.high) == (1.0, 3.0)
    assert found.ranks[2].rank.low is None


def test_a_higher_share_ranks_first():
    losses = {("less", "a"): runs(*[0.1] * 4), ("less", "b"): runs(*[0.2] * 4)}
    shares = [cell | {"exact_match": cell["test_loss"]} for cell in cells(losses)]
    assert rank_tables(shares, "test_loss")[0].ranks[0].name == "a"
    assert rank_tables(shares, "exact_match")[0].ranks[0].name == "b"


def test_only_those_who_meet_everywhere_are_ranked_together():
    methods = [("less", s) for s in ("rr", "uot", "knn")]
    methods += [("rds", "rr"), ("rds", "uot"), ("bm25", "rr")]
    losses = {method: runs(*np.arange(4) + 0.1 * i) for i, method in enumerate(methods)}
    tables = rank_tables(cells(losses), "test_loss")
    found = [(t.of, {line.name for line in t.ranks}, t.within, t.comparisons) for t in tables]
    assert found == [
        ("selector", {"rr", "uot", "knn"}, ("less",), 4),
        ("selector", {"rr", "uot"}, ("less", "rds"), 8),
        ("representation", {"less", "rds", "bm25"}, ("rr",), 4),
        ("representation", {"less", "rds"}, ("rr", "uot"), 8),
    ]


def test_one_method_and_no_method_have_no_table():
    assert rank_tables(cells({("less", "rr"): runs(1, 2, 3, 4)}), "test_loss") == []
    assert rank_tables([], "test_loss") == []
    both = cells({("less", "rr"): runs(1, 2, 3, 4), ("less", "uot"): runs(1, 2, 3, 4)})
    assert rank_tables(both, "exact_match") == []


def test_comparisons_without_a_result_are_left_out():
    losses = {
        ("less", "a"): runs(0.1, math.nan, 0.1, 0.1),
        ("less", "b"): runs(0.2, 0.0, None, 0.2),
    }
    (found,) = rank_tables(cells(losses), "test_loss")
    assert found.comparisons == 2
    assert [(line.name, line.rank.mean, line.best) for line in found.ranks] == [
        ("a", 1.0, 2),
        ("b", 2.0, 0),
    ]


@pytest.mark.parametrize(("methods", "seeds"), [(2, 1), (2, 5), (2, 6), (3, 3), (4, 2)])
def test_equal_rankings_have_the_lowest_p(methods, seeds):
    rows = {
        ("less", str(a)): {(50, s): float(a) for s in range(seeds)} for a in range(methods)
    }  # fmt: skip
    (found,) = rank_tables(cells(rows), "test_loss")
    assert found.p_value == pytest.approx(found.lowest_p)
    assert found.lowest_p == pytest.approx(math.factorial(methods) ** (1 - seeds))
    assert found.differ == ((methods, seeds) in [(2, 6), (3, 3), (4, 2)])


def test_random_ways_agree_with_all_ways(monkeypatch):
    ranks_SA = np.array([[1.0, 2, 3, 4], [1, 3, 2, 4], [2, 1, 4, 3]])
    exact = exchange_p(ranks_SA)
    assert exact < 0.2
    monkeypatch.setattr(ranks, "EXACT_WAYS", 1)
    assert exchange_p(ranks_SA) == pytest.approx(exact, abs=0.012)  # three errors of 9,999 draws


def test_a_null_study_says_that_they_differ_in_at_most_5_of_100():
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(400):
        # Seeds of one method share an effect at all budgets: budgets are not independent.
        shared_SA = rng.normal(size=(3, 4))
        losses = {
            ("less", str(a)): {
                (b, s): shared_SA[s, a] + 0.3 * rng.normal() for b in (50, 100) for s in range(3)
            }
            for a in range(4)
        }
        (found,) = rank_tables(cells(losses), "test_loss")
        told += found.differ
    assert told / 400 <= 0.05 + 0.022  # two errors


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=3, max_size=3),
    st.permutations(range(3)),
)
def test_names_and_their_order_do_not_matter(losses, order):
    def table(positions):
        methods = {("less", f"s{i}"): runs(*losses[i]) for i in positions}
        (found,) = rank_tables(cells(methods), "test_loss")
        return found.p_value, {line.name: line.rank.mean for line in found.ranks}

    p_value, means = table(range(3))
    again, permuted = table(order)
    assert again == pytest.approx(p_value)
    assert permuted == pytest.approx(means)
    assert sum(means.values()) == pytest.approx(6)
