"""Texts of rows as they can be shown: nothing in one acts on a terminal or turns a page around."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of characters that are not drawn: controls, directions, halves of pairs, ..."""
_JOINERS = {"\u200c", "\u200d"}
"""Shape letters and emoji, and do nothing else."""
_DRAWN = {"\n": "↵\n", "\t": "⇥"}


def one_line(text: str, most: int = 300) -> str:
    """Return a text on one line, with its control characters written out, and cut to `most` characters."""
    shown = shown_text(text[: most + 1].replace("\n", " "))
    return shown if len(shown) <= most else f"{shown[:most]}..."


def dialogue_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return a dialogue as text, a turn after the other with its role before it."""
    turns = []
    for turn in messages:
        calls = turn.get("tool_calls") or []
        said = [turn["content"], *(json.dumps(c["function"], ensure_ascii=False) for c in calls)]
        turns.append(f"{turn['role']}: " + "\n".join(text for text in said if text))
    return "\n".join(turns)


def shown_text(text: str, marks: str = "") -> str:
    """Return a text with line ends and tabs drawn, and characters that cannot be seen written out.

    marks: characters that the reader would take for something else; they are written out too.
    """
    if text.isascii() and text.isprintable() and not marks:
        return text
    return "".join(_shown(letter, marks) for letter in text)


def _shown(letter: str, marks: str) -> str:
    if letter in _DRAWN:
        return _DRAWN[letter]
    hidden = unicodedata.category(letter) in _HIDDEN and letter not in _JOINERS
    return _written(letter) if hidden or letter in marks else letter


def _written(letter: str) -> str:
    code = ord(letter)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )
