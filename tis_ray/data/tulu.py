"""The paper's template: the text of a dialogue, and which of it is learnt, exactly as in its code.

    <|system|>\\n{content}\\n    <|user|>\\n{content}\\n    <|assistant|>\\n{content}{eos}\\n

with every content stripped, and then the whole text. What is learnt is an assistant turn's content,
the eos, and the newline before the next turn, if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tis_ray.data.rendering import TemplateError

if TYPE_CHECKING:
    from tis_ray.data.rows import Message

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
ASSISTANT_HEADER = "<|assistant|>\n"

TULU_JINJA = (
    "{% for m in messages %}{{ '<|' + ('system' if m['role'] == 'developer' else m['role']) + '|>\n' }}"
    "{{ m['content'].strip() }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""The Tulu template as a tokenizer's chat template, for programs that accept only those."""


def format_tulu(messages: Sequence[Message], eos: str) -> str:
    """Return the dialogue in the Tulu template, including the last newline."""
    return "".join(_turn(messages, index, eos) for index in range(len(messages)))


def tulu_dialogue(messages: Sequence[Message], eos: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of a dialogue and the spans of it that are learnt.

    Raises TemplateError for a role or a call of tools that the template has no form for.
    """
    text, spans = "", []
    for index, turn in enumerate(messages):
        role, start = turn["role"], len(text)
        text += _turn(messages, index, eos)
        if role != "assistant":
            continue
        if turn.get("tool_calls"):
            raise TemplateError(
                f"messages[{index}]: template tulu has no form for tool calls; use template: chat"
            )
        # The first turn of all has no prompt: as in the paper's code, its header is learnt too.
        first = start + (
            len(ASSISTANT_HEADER) if index and messages[index - 1]["role"] != role else 0
        )
        spans += _trained(turn, first, start + len(ASSISTANT_HEADER), len(text))
    whole = text.strip()
    begin = text.index(whole)
    return whole, [(start - begin, end - begin) for start, end in spans]


def _turn(messages: Sequence[Message], index: int, eos: str) -> str:
    turn = messages[index]
    role = ROLES.get(turn["role"])
    if role is None:
        raise TemplateError(
            f"messages[{index}]: role {turn['role']!r} is not one of system, user, assistant; "
            "template tulu has no form for others, so use template: chat"
        )
    return f"<|{role}|>\n{turn['content'].strip()}{eos if role == 'assistant' else ''}\n"


def _trained(turn: Message, first: int, content: int, end: int) -> list[tuple[int, int]]:
    """Return the spans of one answer: from `first` to `end`, or what its row wants of it.

    content: where its text begins.
    """
    wanted = turn.get("trained")
    if wanted is None:
        return [(first, end)]
    text = turn["content"]
    blanks = len(text) - len(text.lstrip())
    length = len(text.strip())
    spans = []
    for begin, stop in wanted:
        low, high = max(begin - blanks, 0), min(stop - blanks, length)
        if low < high:
            spans.append((content + low, end if high == length else content + high))
    return spans
