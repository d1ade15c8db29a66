"""The schemas of records: which fields make a dialogue, tried in this order.

| schema | fields |
|---|---|
| `paper` | `prompts`, `labels`: the paper's query files, whose `prompts` carry the chat template |
| `messages` | OpenAI's, with `tools` |
| `preference` | `chosen` (and `rejected`), as turns, texts or transcripts, beside a prompt: the chosen side is trained |
| `conversations`, `conversation` | ShareGPT's, with `system` and `tools` beside |
| `prompt/completion` and other pairs (`PAIRS`) | a question and its answer, each a text or turns, with `system`, `history`, and the `input` or `context` of an instruction or question |
| `text` | plain text, all of which is trained |

So a record that fits two schemas is read by the first, or by the one that `columns` names a field of. A
new schema is a function and a line of `SCHEMAS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from tis_ray.data.marks import MARKS
from tis_ray.data.rows import Message, RejectReason, UnusableError
from tis_ray.data.transcripts import prompt_turns, transcript_turns
from tis_ray.data.tulu import ASSISTANT_HEADER
from tis_ray.data.turns import turns_of
from tis_ray.data.values import Fields, list_of, text_of, wrong

PAIRS = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("prompt", "response"),
    ("input", "output"),
)
"""Names of a question and its answer, in the order in which they are looked for."""

SYSTEM = ("system", "system_prompt")
TOOLS = ("tools", "functions")

_SHAREGPT = ("conversations", "conversation")
_QUESTIONS = ("prompt", "question", "instruction", "query", "input")
_WITH_CONTEXT = ("instruction", "question", "query")
_TULU_HEADER = re.compile(r"^<\|(system|user|assistant)\|>\n", re.MULTILINE)


class Schema(NamedTuple):
    """A schema: its name, the fields that it needs, and what makes messages of them.

    read: takes the fields, and a set to which it adds the fields of turns that mean nothing here.
    """

    name: str
    needs: tuple[str, ...]
    read: Callable[[Fields, set[str]], list[Message]]


def schema_of(fields: Fields, mapped: Collection[str] = ()) -> Schema:
    """Return the first schema that the fields fit, those with a mapped field before all others.

    Raises UnusableError if there is none.
    """
    by_map = (schema for schema in SCHEMAS if any(name in mapped for name in schema.needs))
    for schema in (*by_map, *SCHEMAS) if mapped else SCHEMAS:
        if all(name in fields for name in schema.needs):
            return schema
    names = ", ".join(fields.names) or "nothing"
    detail = f"expected {EXPECTED}; found {names}; `columns:` maps other names"
    raise UnusableError(RejectReason.NO_MESSAGES, detail)


def _paper(fields: Fields, _: set[str]) -> list[Message]:
    prompt = text_of(fields.take("prompts"), "prompts")
    label = text_of(fields.take("labels"), "labels")
    return [*_template_turns(prompt), _turn("assistant", label)]


def _template_turns(prompt: str) -> list[Message]:
    """Split a Tulu-templated prompt into its turns; any other text is one turn."""
    pieces = _TULU_HEADER.split(prompt.removesuffix(ASSISTANT_HEADER))
    if pieces[0] or not prompt.endswith(ASSISTANT_HEADER) or len(pieces) == 1:
        return [_turn("user", prompt)]
    roles, contents = pieces[1::2], pieces[2::2]
    if "assistant" in roles:  # their answers end in an eos text that only the tokenizer knows
        return [_turn("user", prompt)]
    return [
        _turn(role, content.removesuffix("\n"))
        for role, content in zip(roles, contents, strict=True)
    ]


def _dialogue(name: str) -> Schema:
    def read(fields: Fields, left_out: set[str]) -> list[Message]:
        return turns_of(fields.take(name), name, left_out, fields.turns)

    return Schema(name, (name,), read)


def _preference(fields: Fields, left_out: set[str]) -> list[Message]:
    """Return the prompt and the chosen answer; a `chosen` that begins with the prompt is the whole."""
    chosen = fields.take("chosen")
    answer = _text_or_turns(fields, "chosen", "assistant", left_out)
    if isinstance(chosen, str):
        answer = transcript_turns(chosen) or answer
    if any(turn["role"] == "user" for turn in answer):
        return answer
    question = fields.first((*_SHAREGPT, *_QUESTIONS))
    if question is None:
        detail = f"`chosen` has no prompt; expected one of {', '.join((*_SHAREGPT, *_QUESTIONS))}"
        raise UnusableError(RejectReason.NO_MESSAGES, detail)
    return [*_asked(fields, question, left_out), *answer]


def _pair(question: str, answer: str) -> Schema:
    def read(fields: Fields, left_out: set[str]) -> list[Message]:
        asked = _asked(fields, question, left_out)
        return [*asked, *_text_or_turns(fields, answer, "assistant", left_out)]

    return Schema(f"{question}/{answer}", (question, answer), read)


def _asked(fields: Fields, name: str, left_out: set[str]) -> list[Message]:
    """Return the turns before an answer: the history and the question, with what it is about below it."""
    question = fields.take(name)
    if name != "instruction" and not isinstance(question, str | bytes):
        return [*_history(fields), *_text_or_turns(fields, name, "user", left_out)]
    text = text_of(question, name)
    if name not in _WITH_CONTEXT:
        return [*_history(fields), *(prompt_turns(text) or [_turn("user", text)])]
    parts = [text]
    for beside in ("input", "context"):
        if beside in fields and (about := text_of(fields.take(beside), beside)).strip():
            parts.append(about)
    return [*_history(fields), _turn("user", "\n\n".join(parts))]


def _history(fields: Fields) -> list[Message]:
    """Return the earlier questions and answers, in pairs, as turns."""
    history = fields.take("history")
    if history is None or (isinstance(history, str) and not history.strip()):
        return []
    turns = []
    for index, pair in enumerate(list_of(history, "history")):
        place = f"history[{index}]"
        texts = list_of(pair, place)
        if len(texts) != 2:
            raise wrong(place, "a question and its answer", pair)
        for role, text in zip(("user", "assistant"), texts, strict=True):
            turns.append(_turn(role, text_of(text, place)))
    return turns


def _text(fields: Fields, _: set[str]) -> list[Message]:
    if "role" in fields:
        detail = (
            "`text` with `role` is one message of a dialogue; join those of each into `messages`"
        )
        raise UnusableError(RejectReason.NO_MESSAGES, detail)
    return [_turn("assistant", text_of(fields.take("text"), "text"))]


def _text_or_turns(fields: Fields, name: str, role: str, left_out: set[str]) -> list[Message]:
    """Return a field as turns, or its text as the turn of a role."""
    value = fields.take(name)
    if isinstance(value, str | bytes):
        return [_turn(role, text_of(value, name))]
    if not isinstance(value, list | tuple | dict):
        raise wrong(name, "text or a list of messages", value)
    marks = ("role", "from", *fields.turns.values())
    if isinstance(value, dict) and any(isinstance(value.get(key), str) for key in marks):
        value = [value]
    return turns_of(value, name, left_out, fields.turns)


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


SCHEMAS = (
    Schema("paper", ("prompts", "labels"), _paper),
    _dialogue("messages"),
    Schema("preference", ("chosen",), _preference),
    *map(_dialogue, _SHAREGPT),
    *(_pair(question, answer) for question, answer in PAIRS),
    Schema("text", ("text",), _text),
)

ROW_FIELDS = frozenset(name for schema in SCHEMAS for name in schema.needs)
"""Fields that a dialogue may stand in: a table needs one of them."""
FIELDS = ROW_FIELDS.union(
    ("id", "source", "dataset", "role", "input", "context", "history"), SYSTEM, TOOLS, MARKS
)
"""Every field that means something."""
EXPECTED = ", ".join("/".join(schema.needs) for schema in SCHEMAS)
