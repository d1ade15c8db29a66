"""A row's pieces as they are drawn: harmless, and with the middle of what is long left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tis_ray.data.pieces import Piece
from tis_ray.data.shown_text import shown_text

LONGEST = 400
"""Characters of a piece that are drawn whole."""
ENDS = 150
"""Characters at both ends of a longer one that are drawn."""
AROUND = 14
"""Pieces that are drawn at the start and at the end of a row, and before and after a cut."""


@dataclass(frozen=True)
class Drawn:
    """A text in one style. note: it is not of the row, but says what is left out."""

    text: str
    learnt: bool = False
    special: bool = False
    cut: bool = False
    note: bool = False


def drawn(pieces: Sequence[Piece], marks: str = "") -> list[Drawn]:
    """Return a row's pieces as texts to draw; characters of `marks` in them are written out."""
    parts: list[Drawn] = []
    kept = _kept(pieces)
    for shown, places in groupby(range(len(pieces)), key=kept.__contains__):
        own = [pieces[place] for place in places]
        if shown:
            for piece in own:
                if piece.cut and not (parts and parts[-1].cut):
                    parts.append(Drawn(" ✂ cut off from here: ", note=True))
                parts.extend(_drawn(piece, marks))
        else:
            tokens = sum(piece.tokens for piece in own)
            text = f" ... {tokens:,} tokens in {len(own):,} pieces ... "
            parts.append(Drawn(text, cut=own[0].cut and own[-1].cut, note=True))
    return parts


def _kept(pieces: Sequence[Piece]) -> set[int]:
    """Return the places of the pieces that are drawn: both ends, and around the cuts."""
    turns = [i for i in range(1, len(pieces)) if pieces[i].cut != pieces[i - 1].cut]
    near = {
        place for turn in [0, *turns, len(pieces)] for place in range(turn - AROUND, turn + AROUND)
    }
    return near & set(range(len(pieces)))


def _drawn(piece: Piece, marks: str) -> Iterator[Drawn]:
    kind = {"learnt": piece.trained, "special": piece.special, "cut": piece.cut}
    if len(piece.text) <= LONGEST:
        yield Drawn(shown_text(piece.text, marks), **kind)
        return
    yield Drawn(shown_text(piece.text[:ENDS], marks), **kind)
    left_out = len(piece.text) - 2 * ENDS
    yield Drawn(
        f" ... {left_out:,} characters ... ", learnt=piece.trained, cut=piece.cut, note=True
    )
    yield Drawn(shown_text(piece.text[-ENDS:], marks), **kind)
