"""What a form is: how a row is said in it, and what the trainer has to be told to hear all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tis_ray.data.rows import Message, Row

Fields = dict[str, Any]
"""A row of a trainer's file."""


class UnsaidError(Exception):
    """A form cannot say a row; the message says what of it."""


PLAIN_TEXT = "plain text"
"""The layout of rows without turns."""


@dataclass(frozen=True)
class Said:
    """A row in a form.

    layout: rows of one file have the same. needs: what the trainer must be told for it. bars: what it must
    not be told.
    """

    fields: Fields
    layout: str = "dialogue"
    needs: frozenset[str] = frozenset()
    bars: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Setting:
    """Where a file of rows lies, and what a trainer is told beside: its base model and longest row.

    template: a file with the study's template in Jinja; None where it is the tokenizer's own.
    """

    path: str
    name: str
    model: str
    max_length: int
    template: str | None = None


@dataclass(frozen=True)
class Formed:
    """All rows of a file in a form, with its layout and what the trainer must be told."""

    rows: list[Fields]
    layout: str
    needs: frozenset[str]


@dataclass(frozen=True)
class Form:
    """A form: its name, how it says a row, and the stanza to paste into the trainer's settings.

    say: raises UnsaidError. stanza: None where no trainer has to be told anything. ending: of the stanza's
    file.
    """

    name: str
    say: Callable[[Row], Said]
    stanza: Callable[[Setting, Formed], str] | None = None
    ending: str = ".yaml"
    noted: bool = field(default=False)
    """Whether rows keep id, source and what is known of why they were chosen, which trainers do not read."""


def formed(form: Form, rows: Sequence[Row]) -> tuple[Formed, dict[int, str]]:
    """Return rows in a form and, by their places, why some cannot be among them.

    Of rows that need what others bar, or have another layout, the fewer cannot.
    """
    said: dict[int, Said] = {}
    unsaid: dict[int, str] = {}
    for place, row in enumerate(rows):
        try:
            said[place] = form.say(row)
        except UnsaidError as error:
            unsaid[place] = str(error)
    layouts = Counter(each.layout for each in said.values())
    layout = layouts.most_common(1)[0][0] if layouts else ""
    needs = frozenset(need for each in said.values() for need in each.needs)
    barred = {need for need in needs if _mostly_barred(need, said)}
    for place, each in said.items():
        if each.layout != layout:
            unsaid[place] = f"it is {each.layout}, and most others are {layout}"
        elif wrong := each.needs & barred:
            unsaid[place] = f"it needs {', '.join(wrong)}, which would change what others train"
        elif wrong := each.bars & (needs - barred):
            unsaid[place] = f"others need {', '.join(wrong)}, which would change what it trains"
    kept = [said[place].fields for place in sorted(said) if place not in unsaid]
    return Formed(kept, layout, needs - barred), unsaid


def _mostly_barred(need: str, said: dict[int, Said]) -> bool:
    barring = sum(need in each.bars for each in said.values())
    return barring > sum(need in each.needs for each in said.values())


def trained(turn: Message) -> Literal["all", "part", "none"]:
    """Return how much of a turn is trained."""
    spans = turn.get("trained")
    if spans is None:
        return "all" if turn["role"] == "assistant" else "none"
    if not spans:
        return "none"
    return "all" if [*map(tuple, spans)] == [(0, len(turn["content"]))] else "part"


def whole_answers(row: Row) -> list[bool]:
    """Return of each turn whether it is trained, whole; UnsaidError for one of which a part is."""
    found = [trained(turn) for turn in row["messages"]]
    if "part" in found:
        place = found.index("part")
        raise UnsaidError(
            f"a part of messages[{place}] is trained; only axolotl's form can say that"
        )
    return [each == "all" for each in found]


def plain_text(row: Row) -> str | None:
    """Return the text of a row that is no dialogue; None for a dialogue."""
    return row["label"] if row.get("prompt") == "" and "label" in row else None


def beside(turn: Message, *names: str) -> Fields:
    """Return those fields of a turn that it has."""
    return {name: turn[name] for name in names if name in turn}  # type: ignore[literal-required]
