"""How far something is, in words."""

from __future__ import annotations

import time

import pytest

from tis_ray.log.activity import Activity, duration


def begun(ago: float, **facts: object) -> Activity:
    return Activity("features less", **facts, since=time.time() - ago)  # type: ignore[arg-type]


def test_a_wait_says_what_for_and_how_long() -> None:
    assert begun(12, state="starting Ray").words() == "starting Ray (12 s)"
    assert begun(12).words() == "(12 s)"
    assert begun(12, unit="shards", total=9, state="waiting").words() == "waiting (12 s)"


def test_the_rate_counts_from_the_first_that_was_done() -> None:
    """What came before was loading."""
    activity = begun(1000, unit="cells", total=9)
    activity.count(1)
    assert activity.rate is None
    assert activity.words() == "1 of 9 cells, 1000 s"
    began, first = activity._first  # type: ignore[misc]
    activity._first = began - 10, first
    activity.count(5)
    assert activity.rate == pytest.approx(0.4, rel=0.01)
    assert activity.words() == "5 of 9 cells, 0.4 cells/s, 0:10 left"


def test_rows_inside_shards_are_counted() -> None:
    activity = begun(5, unit="shards", total=9, part="rows", parts_total=900)
    activity.count(0, parts=50)
    began, first = activity._first  # type: ignore[misc]
    activity._first = began - 10, first
    activity.count(1, parts=150)
    assert activity.words() == "1 of 9 shards, 10 rows/s, 1:15 left"


def test_what_is_done_says_that_it_is_finishing() -> None:
    activity = begun(5, unit="shards", total=2)
    activity.advance(2)
    assert activity.words() == "2 of 2 shards, finishing (5 s)"


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (130, "2:10"), (10930, "3:02:10")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
