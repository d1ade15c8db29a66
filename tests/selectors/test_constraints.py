"""Constraints: what they promise holds, what they do not ask for stays as it was."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.errors import InputError
from tis_ray.selectors.constraints import Filled, Limits, Spacing, fill_budgets

SOURCES = ("a", "b", "c")
pools = st.lists(st.sampled_from(SOURCES), min_size=1, max_size=40)


def ones(sources: list[str]) -> list[int]:
    return [1] * len(sources)


def taken(*arguments: Any, **options: Any) -> tuple[list[int], list[Filled]]:
    found = fill_budgets(*arguments, **options)
    assert found is not None
    return found[0].tolist(), found[1]


@given(pools, st.data())
def test_without_conditions_nothing_changes(sources: list[str], data: st.DataObject) -> None:
    budgets = data.draw(st.sets(st.integers(1, len(sources)), min_size=1))
    places, filled = taken(sorted(budgets), sources, ones(sources))
    assert places == list(range(max(budgets)))
    assert filled == [Filled(b, b, b, 0, 0) for b in sorted(budgets)]


@given(pools, st.data())
def test_caps_and_quotas_hold_at_every_budget_or_no_subset_does(
    sources: list[str], data: st.DataObject
) -> None:
    amount = st.one_of(st.integers(0, 12), st.sampled_from([0.1, 0.3, 0.5, 0.9]))
    limits = Limits(
        data.draw(st.dictionaries(st.sampled_from((*SOURCES, "*")), amount)),
        data.draw(st.dictionaries(st.sampled_from(SOURCES), amount)),
    )
    budgets = sorted(data.draw(st.sets(st.integers(1, len(sources)), min_size=1, max_size=3)))
    there = {s: sources.count(s) for s in SOURCES}
    try:
        places, filled = taken(budgets, sources, ones(sources), limits)
    except InputError:
        # One budget by itself must then be out of reach: nested ones ask for no more than that,
        # because what a smaller budget holds is never above the caps of a larger.
        assert any(not feasible(there, limits, budget) for budget in budgets)
        return
    assert len(set(places)) == len(places)
    for each in filled:
        chosen = [sources[place] for place in places[: each.rows]]
        assert each.rows == each.amount == each.budget
        for source in SOURCES:
            assert chosen.count(source) <= limits.caps(source, each.budget)
        for source, quota in limits.quotas(each.budget).items():
            assert chosen.count(source) >= quota


def feasible(there: dict[str, int], limits: Limits, budget: int) -> bool:
    try:
        quota = limits.quotas(budget)
    except InputError:
        return False
    most = {s: min(n, limits.caps(s, budget)) for s, n in there.items()}
    return sum(most.values()) >= budget and all(q <= most[s] for s, q in quota.items())


@tries(60)
@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=9), st.data())
def test_no_other_choice_holds_better_ranks(sources: list[str], data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, len(sources)))
    limits = Limits(
        data.draw(st.dictionaries(st.sampled_from("ab"), st.integers(0, 6))),
        data.draw(st.dictionaries(st.sampled_from("ab"), st.integers(0, 4))),
    )
    allowed = [
        subset
        for subset in itertools.combinations(range(len(sources)), budget)
        if fits([sources[place] for place in subset], limits, budget)
    ]
    try:
        places, _ = taken([budget], sources, ones(sources), limits)
    except InputError:
        assert not allowed
    else:
        # Place by place: the k-th best row of any other allowed subset ranks no higher.
        assert all(np.all(np.sort(places) <= subset) for subset in allowed)


def fits(chosen: list[str], limits: Limits, budget: int) -> bool:
    try:
        quota = limits.quotas(budget)
    except InputError:
        return False
    return all(chosen.count(s) <= limits.caps(s, budget) for s in "ab") and all(
        chosen.count(s) >= q for s, q in quota.items()
    )


@given(pools, st.data())
def test_a_longer_ordering_takes_the_same_rows_first(
    sources: list[str], data: st.DataObject
) -> None:
    limits = Limits({"a": 3, "*": 0.6}, {"b": 0.2})
    budgets = sorted(data.draw(st.sets(st.integers(1, len(sources)), min_size=1, max_size=3)))
    length = data.draw(st.integers(1, len(sources)))
    try:
        whole = taken(budgets, sources, ones(sources), limits)
    except InputError:
        return
    part = fill_budgets(budgets, sources[:length], ones(sources)[:length], limits, complete=False)
    if part is not None:
        assert (part[0].tolist(), [e.rows for e in part[1]]) == (
            whole[0],
            [e.rows for e in whole[1]],
        )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.data())
def test_a_token_budget_takes_the_longest_beginning_that_fits(
    sizes: list[int], data: st.DataObject
) -> None:
    budget = data.draw(st.integers(sizes[0], sum(sizes)))
    places, (filled,) = taken([budget], ["a"] * len(sizes), sizes, unit="tokens")
    assert places == list(range(filled.rows))
    assert filled.amount == sum(sizes[: filled.rows]) <= budget
    assert filled.rows == len(sizes) or filled.amount + sizes[filled.rows] > budget


def test_a_budget_below_the_best_row_is_refused() -> None:
    with pytest.raises(InputError, match="1 tokens are fewer than the 2 of the best row"):
        fill_budgets([1], ["a"], [2], unit="tokens")


def test_forced_rows_are_in_every_budget_and_count() -> None:
    places, filled = taken([2, 4], list("abaaab"), [1] * 6, Limits({"a": 3}), forced=2)
    assert places == [0, 1, 2, 3]
    places, _ = taken([5], list("abaaab"), [1] * 6, Limits({"a": 3}), forced=2)
    assert places == [0, 1, 2, 3, 5]
    assert [each.rows for each in filled] == [2, 4]


def test_a_share_grows_with_its_budget_and_who_waited_comes_first() -> None:
    places, filled = taken([4, 8], list("aaaaabbbbb"), [1] * 10, Limits({"a": 0.5}))
    assert places == [0, 1, 5, 6, 2, 3, 7, 8]
    assert [each.capped for each in filled] == [3, 1]


def test_shares_are_rounded_as_people_count() -> None:
    limits = Limits({"a": 0.1}, {"b": 0.1})
    assert limits.caps("a", 30) == 3
    assert limits.quotas(30) == {"b": 3}
    assert limits.caps("a", 39) == 3
    assert limits.quotas(31) == {"b": 4}


@pytest.mark.parametrize(
    ("limits", "options", "message"),
    [
        (
            Limits({"a": 2}),
            {},
            "budget: 6 examples cannot be reached: 5 can, 1 are missing (3 rows",
        ),
        (Limits({}, {"b": 4}), {}, "short of 1 of 'b' (it gives 3 of 'b')"),
        (Limits({}, {"a": 5, "b": 3}), {}, "add up to 8, 2 more than the budget of 6"),
        (Limits({"a": 2}, {"a": 4}), {}, "the quota of source 'a' is 4, 2 above its cap of 2"),
        (Limits(), {"forced": 8}, "its 8 rows have 8 examples, 2 more than the budget of 6"),
        (Limits({"a": 1}), {"forced": 4}, "have 3 examples of source 'a', 2 above its cap of 1"),
    ],
)
def test_what_cannot_be_says_which_and_by_how_much(
    limits: Limits, options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError) as error:
        fill_budgets([6], list("aabaaabb"), [1] * 8, limits, **options)
    assert message in str(error.value)


def unit_rows(seed: int, rows: int, groups: int) -> np.ndarray:
    """Rows in tight groups: near-duplicates of each other."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(groups, 16))
    rows_ED = centres[draw.integers(groups, size=rows)] + 0.05 * draw.normal(size=(rows, 16))
    found: np.ndarray = (rows_ED / np.linalg.norm(rows_ED, axis=1, keepdims=True)).astype("f4")
    return found


@pytest.mark.parametrize("seed", range(5))
def test_no_two_taken_rows_are_nearer_than_the_radius(seed: int) -> None:
    rows_ED = unit_rows(seed, 700, 60)
    spacing = Spacing(lambda places: rows_ED[places], 0.05)
    places, (small, large) = taken([20, 45], ["a"] * 700, [1] * 700, spacing=spacing)
    cosines = rows_ED[places].astype(np.float64) @ rows_ED[places].T
    assert (cosines[~np.eye(45, dtype=bool)] < 0.95).all()
    # As the plain rule takes them, one by one.
    plain: list[int] = []
    for place in range(700):
        if len(plain) < 45 and all(
            np.sum(rows_ED[place].astype(np.float64) * rows_ED[p]) < 0.95 for p in plain
        ):
            plain.append(place)
    assert places == plain
    assert small.rows == 20
    assert large.near == places[-1] + 1 - 45


def test_a_radius_that_nothing_meets_changes_nothing() -> None:
    spacing = Spacing(lambda places: np.eye(300, dtype="f4")[places], 0.5)
    assert taken([280], ["a"] * 300, [1] * 300, spacing=spacing)[0] == list(range(280))
