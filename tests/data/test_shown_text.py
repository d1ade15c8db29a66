"""What is shown of rows is harmless: no control character reaches a terminal or a page."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.data.shown_text import one_line, shown_text


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = shown_text(text)
    left = {unicodedata.category(letter) for letter in shown if letter not in "\n\u200c\u200d"}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert shown.count("\n") == text.count("\n")
    assert "\n" not in one_line(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [text] naïve 日本語 👩\u200d👧", "plain [text] naïve 日本語 👩\u200d👧"),
        ("a\n\tb", "a↵\n⇥b"),
        ("\x1b[2J\x07\x9b31m\r", "\\x1b[2J\\x07\\x9b31m\\x0d"),
        ("\u202eexe.\u2066\u200b\ufeff", "\\u202eexe.\\u2066\\u200b\\ufeff"),
        ("\U000e0041\ud800", "\\U000e0041\\ud800"),
        ("⟦", "⟦"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert shown_text(text) == shown


def test_marks_of_the_page_itself_are_written_out() -> None:
    assert shown_text("a⟦b", marks="⟦⟧") == "a\\u27e6b"


def test_a_long_line_is_cut() -> None:
    assert one_line("ab\ncd", most=4) == "ab c..."
    assert one_line("ab\ncd") == "ab cd"
