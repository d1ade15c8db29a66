r"""Dialogues written as one text, as HH-RLHF has them: `\n\nHuman: Hi\n\nAssistant: Hello`."""

from __future__ import annotations

import re

from tis_ray.data.rows import Message

_NAME = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def transcript_turns(text: str) -> list[Message]:
    """Return the turns of a text that begins with the human's and holds one of the assistant's, else none."""
    if "Assistant:" not in text:
        return []
    begin, *pieces = _NAME.split(text)
    names, contents = pieces[::2], pieces[1::2]
    if begin or not names or names[0] != "Human" or "Assistant" not in names:
        return []
    return [
        {"role": _ROLES[name], "content": content.strip()}
        for name, content in zip(names, contents, strict=True)
    ]


def prompt_turns(text: str) -> list[Message]:
    """Return the turns of a transcript that ends where the assistant is to answer, else none."""
    turns = transcript_turns(text)
    return turns[:-1] if turns and turns[-1] == {"role": "assistant", "content": ""} else []
