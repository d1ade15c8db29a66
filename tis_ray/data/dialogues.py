"""Dialogues made to fit a template: system turns put elsewhere, neighbours of one role joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tis_ray.settings.template import TemplateConfig

if TYPE_CHECKING:
    from tis_ray.data.rows import Message

SYSTEM_ROLES = ("system", "developer")
_GAP = "\n\n"


def prepared(messages: Sequence[Message], template: TemplateConfig) -> list[Message]:
    """Return the dialogue as the template is to see it; see `TemplateConfig`."""
    turns = list(messages)
    if template.system == "drop":
        turns = [turn for turn in turns if turn["role"] not in SYSTEM_ROLES]
    elif template.system == "prepend":
        turns = _prepended(turns)
    return _merged(turns) if template.merge else turns


def _prepended(turns: Sequence[Message]) -> list[Message]:
    """Put the text of system turns before that of the next user turn; where there is none, keep it."""
    out: list[Message] = []
    waiting: list[Message] = []
    for turn in turns:
        if turn["role"] in SYSTEM_ROLES:
            waiting.append(turn)
            continue
        if waiting and turn["role"] == "user":
            texts = [each["content"] for each in (*waiting, turn)]
            turn = {**turn, "content": _GAP.join(texts)}
            waiting = []
        out.append(turn)
    if waiting:
        out.append({"role": "user", "content": _GAP.join(turn["content"] for turn in waiting)})
    return out


def _merged(turns: Sequence[Message]) -> list[Message]:
    """Join neighbouring turns of one role that say nothing but text."""
    out: list[Message] = []
    for turn in turns:
        if out and _plain(turn) and _plain(out[-1]) and out[-1]["role"] == turn["role"]:
            out[-1] = _together(out[-1], turn)
        else:
            out.append(turn)
    return out


def _plain(turn: Message) -> bool:
    return turn.keys() <= {"role", "content", "trained"} and turn["role"] != "tool"


def _together(first: Message, second: Message) -> Message:
    """Return two turns as one, of which is trained what was trained of them."""
    both: Message = {"role": first["role"], "content": first["content"] + _GAP + second["content"]}
    shift = len(first["content"]) + len(_GAP)
    whole = [(0, len(first["content"]))], [(0, len(second["content"]))]
    if "trained" not in first and "trained" not in second:
        return both
    before = first.get("trained", whole[0])
    after = [(low + shift, high + shift) for low, high in second.get("trained", whole[1])]
    return {**both, "trained": [*before, *after]}
