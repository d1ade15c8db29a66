"""A preview in a terminal and as a page: what is learnt is marked, and no text of a row can act."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.report.page_reader import Page
from tis_ray.data import EncodedRow, TokenCounts
from tis_ray.data.pieces import Piece
from tis_ray.report.preview_page import write_preview
from tis_ray.report.preview_record import Preview, ShownRow, SideLook
from tis_ray.report.preview_rows import AROUND, LONGEST, drawn
from tis_ray.report.preview_text import histogram, print_preview, row_text
from tis_ray.stages.side_report import Refused

EVIL = '<img src=x onerror=alert(1)> </pre></body> \x1b[2J\x07 \u202eexe \ud800 {{ 7*7 }} [red]x[/red] ⟦"'


def preview_of(text: str) -> Preview:
    """Return a preview that has a text wherever one of a file can be."""
    pieces = [
        Piece("<s>", 1, special=True),
        Piece(f"ask {text}\n", 9),
        Piece(text, 3, trained=True),
        Piece(text, 2, trained=True, cut=True),
    ]
    counts = TokenCounts()
    counts.add(EncodedRow([1] * 13, [1] * 13, 15, [text]))
    look = SideLook(
        side="pool",
        where=text,
        reach="2 rows read = 1 used + 1 refused",
        schemas={text: {"messages": 1}},
        refused=[Refused("bad_json", "", "detail", 1, ["a.jsonl line 1"])],
        left_out={text: 1},
        counts=counts,
        repeats=[text],
        rows=[ShownRow(text, text, text, 3, "messages", pieces)],
    )
    return Preview(text, [("template", text)], [text], 13, [look])


def printed(preview: Preview, coloured: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=coloured, color_system="standard" if coloured else None)  # fmt: skip
    print_preview(preview, console)
    return out.getvalue()


@settings(deadline=None, max_examples=50)
@given(st.text() | st.just(EVIL))
def test_nothing_of_a_row_reaches_the_terminal_as_it_is(text: str) -> None:
    shown = printed(preview_of(text))
    hidden = {
        *map(chr, range(32)),
        *map(chr, range(127, 160)),
        *"\u202a\u202b\u202d\u202e\u2066\u2067",
    }
    assert not (hidden - {"\n"}) & {*shown}
    row = row_text([Piece(text, 1, trained=True)], coloured=False).plain
    assert (row.count("⟦"), row.count("⟧")) == (1, 1)
    printed(preview_of(text), coloured=True)


def test_the_page_holds_rows_as_text(tmp_path: Path) -> None:
    page = write_preview([preview_of(EVIL)], tmp_path / "p.html").read_text()
    assert "<img" not in page
    assert "</pre></body>" not in page
    assert page.count("<script") == 0
    assert "{{ 7*7 }}" in page
    assert not {"\x1b", "\x07", "\u202e"} & {*page}
    read = Page(page)  # its tags are balanced
    assert read.tags.count("pre") == 1
    assert {*read.tags}.isdisjoint({"img", "script", "a", "link"})
    assert "<img src=x onerror=alert(1)>" in "".join(read.text)
    assert write_preview([preview_of(EVIL)], tmp_path / "q.html").read_text() == page


def test_marks_without_colour_and_colours_with() -> None:
    pieces = [Piece("ask\n", 2), Piece("yes\n", 2, trained=True), Piece("no", 1, cut=True)]
    assert row_text(pieces, coloured=False).plain == ("ask↵\n⟦yes↵⟧\n ✂ cut off from here: ⟪no⟫")
    text = row_text(pieces, coloured=True)
    styles = {text.plain[span.start : span.end].strip(): str(span.style) for span in text.spans}
    assert "green" in styles["yes↵"]
    assert "strike" in styles["no"]
    assert "⟦" not in text.plain
    assert "\x1b[1;4;32m" in printed(preview_of("yes"), coloured=True)


@given(st.integers(1, 3 * LONGEST))
def test_a_long_piece_keeps_both_ends_and_says_what_is_missing(length: int) -> None:
    letters = "".join(chr(97 + n % 26) for n in range(length))
    parts = drawn([Piece(letters, length)])
    shown = [part.text for part in parts if not part.note]
    assert letters.startswith(shown[0])
    assert letters.endswith(shown[-1])
    missing = [int(p.text.replace(",", "").split()[1]) for p in parts if p.note]
    assert sum(map(len, shown)) + sum(missing) == length


@given(st.integers(1, 200), st.integers(0, 200))
def test_many_pieces_keep_both_ends_and_the_cut(count: int, cut: int) -> None:
    pieces = [Piece(f"p{n} ", 1, trained=n % 2 > 0, cut=n >= cut) for n in range(count)]
    parts = drawn(pieces)
    shown = {part.text for part in parts if not part.note}
    ends = {*range(min(AROUND, count)), *range(max(0, count - AROUND), count)}
    ends |= {n for n in (cut - 1, cut) if 0 <= n < count}
    assert {f"p{n} " for n in ends} <= shown
    missing = [int(p.text.split()[1]) for p in parts if p.note and "tokens in" in p.text]
    assert len(shown) + sum(missing) == count
    assert sum("cut off from here" in part.text for part in parts) == (cut < count)


def test_bins_of_the_histogram() -> None:
    counts = TokenCounts()
    for length in (20, 30, 30, 90):
        counts.add(EncodedRow([], [], length))
    assert histogram(counts) == [
        ("17 to 24", 1, 0.5),
        ("25 to 32", 2, 1.0),
        ("33 to 48", 0, 0.0),
        ("49 to 64", 0, 0.0),
        ("65 to 96", 1, 0.5),
    ]


@pytest.mark.parametrize("problems", [[], ["data.template is wrong"]])
def test_problems_come_first(problems: list[str]) -> None:
    shown = printed(Preview("x", [], problems, 8, []))
    assert ("no problem" in shown) == (not problems)
    assert all(problem in shown for problem in problems)
