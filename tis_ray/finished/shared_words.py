"""What two dialogues have in common: runs of words, found as overlap is found, made for the eye.

A word is a run of letters and digits with marks inside it, whatever its case. In common are the runs of
at least `RUN` words that stand in a turn of both; where there are none, the words of `LETTERS` letters
or more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

RUN, LETTERS = 3, 5
_WORD = re.compile(r"[^\W_]+(?:['’.,_-][^\W_]+)*")

Spans = list[tuple[int, int]]
"""Begin and end of parts of a text, in characters, in order and apart."""
Words = list[re.Match[str]]
Gram = tuple[str, ...]


def shared_runs(one: Sequence[str], other: Sequence[str]) -> tuple[list[Spans], list[Spans]]:
    """Return what the turns of two dialogues have in common: spans of each turn, of either."""
    words, others = ([[*_WORD.finditer(text)] for text in texts] for texts in (one, other))
    for length, letters in ((RUN, 1), (1, LETTERS)):
        both = _grams(words, length, letters) & _grams(others, length, letters)
        if both:
            return [_spans(w, both, length) for w in words], [
                _spans(w, both, length) for w in others
            ]
    return [[] for _ in one], [[] for _ in other]


def longest(texts: Sequence[str], spans: Sequence[Spans], most: int = 3) -> list[str]:
    """Return the longest different parts of some texts, longest first."""
    parts = (t[begin:end] for t, of in zip(texts, spans, strict=True) for begin, end in of)
    different = dict.fromkeys(" ".join(part.split()) for part in parts)
    return sorted(different, key=len, reverse=True)[:most]


def _grams(turns: Sequence[Words], length: int, letters: int) -> set[Gram]:
    """Return the runs of so many words, one of them of at least so many letters."""
    grams = (gram for words in turns for gram in _runs(words, length))
    return {gram for gram in grams if max(map(len, gram)) >= letters}


def _runs(words: Words, length: int) -> list[Gram]:
    folded = [word[0].casefold() for word in words]
    return [*zip(*(folded[start:] for start in range(length)), strict=False)]


def _spans(words: Words, both: Set[Gram], length: int) -> Spans:
    """Return the spans of a turn's runs that are in common; those that touch or overlap become one."""
    spans: Spans = []
    end = -1  # the word after the last run
    for place, gram in enumerate(_runs(words, length)):
        if gram not in both:
            continue
        last = words[place + length - 1].end()
        if spans and place <= end:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((words[place].start(), last))
        end = place + length
    return spans
