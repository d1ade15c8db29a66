"""Answers are read as people would read them, and what cannot be read is said."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.errors import InputError
from tis_ray.metrics import METRICS, check_references
from tis_ray.metrics.choice_match import choice_match, read_choice
from tis_ray.metrics.exact_match import exact_match
from tis_ray.metrics.f1 import f1
from tis_ray.metrics.numeric_match import numeric_match, read_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 300", "300"),
        ("So 4 + 5 = 9 apples. #### 9 apples, not 10", "9"),
        ("#### 1\n then #### 2", "2"),
        ("The total is $1,234.50.", "1234.5"),
        ("It is 12, then 1,2", "2"),
        ("costs 7.", "7"),
        ("-5", "-5"),
        ("\N{MINUS SIGN}5 degrees", "-5"),
        ("pages 3-5", "5"),
        ("(2+3)-5", "5"),
        ("-$3", "-3"),
        ("x = .5", "0.5"),
        ("1234567", "1234567"),
        ("1,234,567", "1234567"),
        ("007", "7"),
        ("-0", "0"),
        ("no idea", None),
        ("", None),
        ("it was 12 #### twelve", None),
    ],
)
def test_numbers_are_read(text, number):
    assert read_number(text) == (None if number is None else Decimal(number))


@given(st.decimals(-(10**9), 10**9, places=3), st.sampled_from(["{}", "#### {}", "It is {}. "]))
def test_any_number_is_read_back_with_and_without_commas(number, frame):
    for text in (f"{number}", f"{number:,}"):
        assert read_number(frame.format(text)) == number


def test_equal_numbers_match_however_they_are_written():
    for answer in ("3", "3.0", "#### 3.00", "= $3"):
        assert numeric_match(answer, ["4", "#### 3"]).value == 1
    assert numeric_match("31", ["3"]) == numeric_match("so 31", ["3"])
    assert numeric_match("31", ["3"]).value == 0
    assert numeric_match("none", ["3"]).read is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" (b) because", "B"),
        ("C. Paris", "C"),
        ("D) is right", "D"),
        ("**E**", "E"),
        ("The answer is (C).", "C"),
        ("the answer is B because A is not", "B"),
        ("I think so. Answer: D", "D"),
        ("Answer is A. No, the answer is (J)", "J"),
        ("I think that (A) or rather (b) holds", "B"),
        ("A dog ran away", None),
        ("I do not know", None),
        ("the answer is a dog", None),
        ("b", None),
        ("", None),
        ("Because of this", None),
    ],
)
def test_letters_of_choices_are_read(text, letter):
    assert read_choice(text) == letter


def test_choices_match_by_letter():
    assert choice_match("The answer is (B).", ["B. Paris"]).value == 1
    assert choice_match("The answer is (B).", ["(C)"]).value == 0
    assert choice_match("Paris", ["B"]).read is None


def test_exact_match_leaves_out_space_at_both_ends_only():
    answers = ["cat", " cat\n", "Cat", "ca t", ""]
    scores = [exact_match(answer, ["cat\n"]) for answer in answers]
    assert [score.value for score in scores] == [1, 1, 0, 0, 0]
    assert [score.read for score in scores] == ["cat", "cat", "Cat", "ca t", None]
    assert exact_match("", [""]) == exact_match(" ", ["", "x"])
    assert exact_match("", [""]).value == 1
    assert exact_match("", [""]).read is not None


@pytest.mark.parametrize(
    ("answer", "references", "value"),
    [
        ("The cat sat.", ["a cat sat"], 1.0),
        ("cat", ["the cat sat on a mat"], 2 / (1 + 4)),
        ("cat cat", ["cat"], 2 / 3),
        ("dog", ["cat", "big dog"], 2 / 3),
        ("dog", ["cat"], 0.0),
        ("", ["cat"], 0.0),
        ("the", ["a"], 1.0),
    ],
)
def test_f1_is_that_of_squad(answer, references, value):
    assert f1(answer, references).value == pytest.approx(value)


def test_f1_of_nothing_is_a_parse_failure():
    assert f1("...", ["cat"]).read is None
    assert f1("dog", ["cat"]).read == "dog"


words = st.lists(st.sampled_from(["red", "green", "blue", "the", "a"]), max_size=6).map(" ".join)


@given(words, words)
def test_f1_is_symmetric_and_between_0_and_1(a, b):
    assert f1(a, [b]).value == f1(b, [a]).value
    assert 0 <= f1(a, [b]).value <= 1
    assert f1(a, [a]).value == 1


@pytest.mark.parametrize("metric", list(METRICS.own))
def test_no_metric_scores_above_what_any_reference_gives(metric):
    """More references never lower a score."""
    pairs = [("#### 3 (B)", ["#### 4 (A)", "#### 3 (B)"]), ("(C) 5", ["(C) 5", "(D) 6"])]
    for answer, references in pairs:
        alone = [METRICS.find(metric).score(answer, [reference]).value for reference in references]
        assert METRICS.find(metric).score(answer, references).value == max(alone)


def test_references_that_a_metric_cannot_read_are_named():
    with pytest.raises(InputError, match="there is no number in the reference answer 'many'"):
        check_references("numeric_match", ["3", "many"])
    with pytest.raises(InputError, match=r"there is no letter of a choice .* 'Paris'"):
        check_references("choice_match", ["Paris"])
    check_references("exact_match", ["anything"])
