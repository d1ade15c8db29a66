"""The verdict in words says what the statistics say, good or bad."""

import pytest

from tests.report.conftest import LEGEND, changed, with_two_zero_shots
from tis_ray.analysis import Comparison, Interval, Method
from tis_ray.analysis.comparison import subset_against_random
from tis_ray.analysis.samples import Sample
from tis_ray.analysis.study_values import POOL, QUERIES, Part
from tis_ray.metrics.description import describe
from tis_ray.report.formatting import decimals_of, duration, interval, number, probability
from tis_ray.report.headline import headline


@pytest.fixture
def headline_of(make):
    return lambda **changes: headline(make(**changes).table())


def test_a_clear_win_leads_with_the_numbers(headline_of):
    found = headline_of(budgets=(100,))
    assert found.tone == "good"
    assert found.sentence.startswith("LESS + round robin beats random at budget 100: test loss 0.")
    assert "difference −0.196 [−0.2" in found.sentence
    assert found.sentence.endswith("over 3 seeds.")


def test_no_win_is_said_first(headline_of):
    found = headline_of(gain=0.0)
    assert found.sentence.startswith("No method is shown to beat random on test loss.")
    assert found.tone != "good"


def test_a_loss_is_said_first(headline_of):
    found = headline_of(gain=-0.3, budgets=(100,), methods=[("less", "round_robin")])
    assert found.sentence.startswith("Every method is worse than random on test loss.")
    assert found.tone == "bad"
    assert any("Worse than no training at all" in line for line in found.details)


def test_a_win_beside_a_loss_names_the_loser(make):
    record = make(budgets=(100,))

    def lose(cell):
        if cell["representation"] == "embed":
            cell["test_loss"] += 0.3

    record.cells = changed(record, lose)
    found = headline(record.table())
    assert found.tone == "good"
    assert "Worse than random on test loss: EMBED + UOT @ 100." in found.details


def test_one_seed_gives_no_verdict(headline_of):
    found = headline_of(seeds=(0,))
    assert found.sentence.startswith("One seed gives no verdict.")
    assert any("three seeds" in line for line in found.details)


def test_many_comparisons_are_disclosed(headline_of):
    (first, second, *_) = headline_of().details
    assert first.startswith("This is about these rows")
    assert "was not asked" in first
    assert second.startswith("This is the most favourable of 4 comparisons.")


def test_without_random_there_is_no_verdict(make):
    record = make()
    record.cells = [cell for cell in record.cells if not cell.method.is_random]
    assert headline(record.table()).sentence.startswith("No verdict: random was not measured")


def test_nothing_measured_is_said():
    assert "nothing to compare" in headline([]).sentence


@pytest.mark.parametrize(
    ("metric", "value", "signed", "text"),
    [
        ("test_loss", 0.4567, False, "0.46"),
        ("test_loss", -0.2, True, "−0.20"),
        ("test_loss", -0.001, True, "0.00"),
        ("exact_match", 0.62, False, "62.00%"),
        ("exact_match", 0.08, True, "+8.00 points"),
    ],
)
def test_numbers(metric, value, signed, text):
    assert number(describe(metric), value, 2, signed=signed) == text


@pytest.mark.parametrize(
    ("metric", "ends", "places"),
    [
        ("test_loss", [(0.1, 0.2)], 3),  # as on screen
        ("test_loss", [(0.1001, 0.1005)], 4),  # one digit of the typical interval
        ("test_loss", [(40.0, 48.0)], 2),
        ("test_loss", [(-0.2, -0.1), (-0.0104, -0.0002)], 4),  # better: no end may read as 0.000
        ("test_loss", [(-0.2, -0.1), (-0.0104, 0.0002)], 3),
        ("exact_match", [(0.1, 0.2)], 1),
        ("exact_match", [(0.0002, 0.2)], 2),
        ("test_loss", [], 3),
    ],
)
def test_there_are_as_many_decimals_as_the_intervals_need(metric, ends, places):
    found = [Comparison((a + b) / 2, a, b, a, 3, 3, 0, 0.01, "better") for a, b in ends]
    assert decimals_of(describe(metric), found) == places


def test_no_interval_is_no_text():
    assert interval(describe("test_loss"), Interval(0.5, None, None, 1), 2) == ""
    assert (
        interval(describe("exact_match"), Interval(0.5, 0.4, 0.6, 3), 1, signed=True)
        == "[+40.0, +60.0]"
    )


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (POOL, "Pool"),
        (QUERIES, "Queries"),
        (Part(method=Method("less", "round_robin"), budget=1000), "LESS + round robin @ 1,000"),
        (Part(method=Method("rds", "uot"), budget=10), "RDS+ + UOT @ 10"),
        (Part(method=Method("random", "random"), budget=100), "Random @ 100"),
    ],
)
def test_parts_of_the_record_have_labels(part, shown):
    assert LEGEND.part(part) == shown


def test_two_zero_shots_are_told_apart(make):
    rows = with_two_zero_shots(make()).table()
    names = [row.label for row in rows[:3]]
    assert names == ["Zero-shot", "Zero-shot, no template", "Random"]
    (line,) = [text for text in headline(rows).details if "better of two" in text]
    assert "without template: test loss; with template: query loss, exact match" in line


def test_one_zero_shot_needs_no_explanation(headline_of):
    assert not any("better of two" in line for line in headline_of().details)


def test_small_words():
    assert LEGEND.method(Method("less", "round_robin")) == "LESS + round robin"
    assert LEGEND.method(Method("my_own", "top_k")) == "my own + top k"
    assert LEGEND.method(Method("random", "random")) == "Random"
    assert [duration(s) for s in (0, 2.2, 61, 600, 9000)] == [
        "–",
        "2.2 s",
        "61 s",
        "10 min",
        "2.5 h",
    ]
    assert [probability(p) for p in (None, 1e-9, 0.0046, 0.5)] == ["", "< 0.001", "0.005", "0.50"]


def test_a_verdict_without_an_interval_has_the_decimals_of_its_difference():
    """Random came to the same in 20 runs: 1 in 21 is rare enough, and "difference 0.000" would say nothing."""
    random = Sample(dict.fromkeys(range(20), 1.0))
    metric = describe("test_loss")
    found = subset_against_random(Sample({0: 0.99997, 1: 0.99997}), random, metric=metric)
    assert (found.verdict, found.low) == ("better", None)
    assert decimals_of(metric, [found]) == 5
    same = subset_against_random(Sample({0: 1.0, 1: 1.0}), random, metric=metric)
    assert decimals_of(metric, [same]) == 3
