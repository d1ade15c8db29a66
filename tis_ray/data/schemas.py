"""The schemas of records: which fields make a dialogue, tried in this order.

| schema | fields |
|---|---|
| `paper` | `prompts`, `labels`: the paper's query files, whose `prompts` carry the chat template |
| `messages` | OpenAI's, with `tools` |
| `preference` | `chosen` (and `rejected`), as turns or texts, beside a prompt: the chosen side is trained |
| `conversations`, `conversation` | ShareGPT's, with `system` and `tools` beside |
| `prompt/completion` and other pairs (`PAIRS`) | a question and its answer, each a text or turns, with `system`, `history`, and the `input` or `context` of an instruction |
| `text` | plain text, all of which is trained |

So a record that fits two schemas is read by the first. What nothing was read of is counted as left out.
A schema is a function from `Fields` to messages (see `SCHEMAS`); a new one is added there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tis_ray.data.chat import ASSISTANT_HEADER
from tis_ray.data.rows import Message, Record, RejectReason, Row, Side, UnusableError
from tis_ray.data.turns import tools_of, turns_of
from tis_ray.data.values import Fields, label_of, list_of, text_of, wrong

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

_DIALOGUES = ("messages", "conversations", "conversation", "chosen", "prompts", "labels", "text")
_SYSTEM = ("system", "system_prompt")
_TOOLS = ("tools", "functions")
_QUESTIONS = ("prompt", "question", "instruction", "query", "input")
_BESIDE = ("id", "source", "dataset", "input", "context", "history", *_SYSTEM, *_TOOLS)
_SHAREGPT = ("conversations", "conversation")

ROW_FIELDS = frozenset([*_DIALOGUES, *(name for pair in PAIRS for name in pair)])
"""Fields that a dialogue may stand in: a table needs one of them."""
FIELDS = frozenset([*_BESIDE, *ROW_FIELDS])
"""Every field that means something."""
EXPECTED = ", ".join(
    [
        *("messages", "conversations", "chosen", "text"),
        *(f"{question}/{answer}" for question, answer in (*PAIRS, ("prompts", "labels"))),
    ]
)

_TULU_HEADER = re.compile(r"^<\|(system|user|assistant)\|>\n", re.MULTILINE)


@dataclass(frozen=True)
class Reading:
    """How the records of one source are read.

    columns: where a field stands, by the field: its name, or the path to it with dots. train_on: which
    answers of a dialogue are trained.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    train_on: Literal["all", "last"] = "all"


def row_of(record: Record, side: Side, reading: Reading) -> Row:
    """Return the row that a record holds, with the id that it was given or "".

    Raises UnusableError where it holds none.
    """
    if record.broken is not None:
        raise record.broken
    if not isinstance(record.value, dict):
        raise wrong("row", "an object", record.value)
    fields = _fields(record, reading.columns)
    given, left_out = label_of(fields.take("id"), "id"), set[str]()
    source = label_of(fields.take("source"), "source")
    if "dataset" in fields and not source:
        source = label_of(fields.take("dataset"), "dataset")
    row: Row = {"id": given, "source": source or record.default_source, "messages": []}
    row["schema"], read = _schema(fields)
    row["messages"] = read(fields, left_out)
    _add_beside(row, fields)
    if row["schema"] == "paper" and side != "pool":
        row["prompt"] = text_of(fields.take("prompts"), "prompts")
        row["label"] = text_of(fields.take("labels"), "labels")
    elif row["schema"] == "text":
        row["prompt"], row["label"] = "", row["messages"][0]["content"]
    _check(row["messages"], side, row["schema"])
    if reading.train_on == "last":
        _train_last(row["messages"])
    if side == "pool" and not any(map(_trains, row["messages"])):
        detail = "no answer is trained (weight 0, train: false); a pool row must train something"
        raise UnusableError(RejectReason.NOTHING_TRAINED, detail)
    row["file"], row["line"] = record.file, record.line
    if given:
        row["given_id"] = given
    if left := sorted({*fields.left, *left_out, *record.unread}):
        row["left_out"] = left
    return row


def given_id(record: Record, reading: Reading) -> str | None:
    """Return the id of a record that cannot be used; None where it has none that can be read."""
    if not isinstance(record.value, dict):
        return None
    try:
        return label_of(_fields(record, reading.columns).take("id"), "id") or None
    except UnusableError:
        return None


def _fields(record: Record, columns: Mapping[str, str]) -> Fields:
    """Return a record's fields under the names that they have here."""
    assert isinstance(record.value, dict)
    values = dict(record.value)
    for name, value in (record.more or {}).items():
        if values.get(name) is None:
            values[name] = value
    if not columns:
        return Fields(values)
    mapped = {name: _at(values, path) for name, path in columns.items()}
    for path in columns.values():
        values.pop(path if path in values else path.partition(".")[0], None)
    return Fields(values | mapped)


def _at(values: object, path: str) -> object:
    if not isinstance(values, dict):
        return None
    if path in values:
        return values[path]
    first, _, rest = path.partition(".")
    return _at(values.get(first), rest) if rest else None


Schema = Callable[[Fields, set[str]], list[Message]]


def _schema(fields: Fields) -> tuple[str, Schema]:
    """Return the name and the reader of the first schema that the fields fit."""
    if "prompts" in fields and "labels" in fields:
        return "paper", _paper
    if "messages" in fields:
        return "messages", lambda f, left: turns_of(f.take("messages"), "messages", left)
    if "chosen" in fields:
        return "preference", _preference
    if name := fields.first(_SHAREGPT):
        return name, lambda f, left: turns_of(f.take(name), name, left)
    for pair in PAIRS:
        if all(name in fields for name in pair):
            return "/".join(pair), lambda f, left, pair=pair: _pair(f, left, *pair)  # type: ignore[misc]
    if "text" in fields:
        return "text", lambda f, _: [_turn("assistant", text_of(f.take("text"), "text"))]
    names = ", ".join(fields.names) or "nothing"
    detail = f"expected {EXPECTED}; found {names}; `columns:` maps other names"
    raise UnusableError(RejectReason.NO_MESSAGES, detail)


def _paper(fields: Fields, _: set[str]) -> list[Message]:
    prompt = text_of(fields.take("prompts"), "prompts")
    label = text_of(fields.take("labels"), "labels")
    return [*_template_turns(prompt), _turn("assistant", label)]


def _preference(fields: Fields, left_out: set[str]) -> list[Message]:
    """Return the prompt and the chosen answer; a `chosen` that begins with the prompt is the whole."""
    chosen = fields.take("chosen")
    if isinstance(chosen, dict):
        chosen = [chosen]
    whole = not isinstance(chosen, str)
    answer = _text_or_turns(chosen, "chosen", "assistant", left_out)
    if whole and any(turn["role"] == "user" for turn in answer):
        return answer
    question = fields.first((*_SHAREGPT, *_QUESTIONS))
    if question is None:
        detail = f"`chosen` has no prompt; expected one of {', '.join((*_SHAREGPT, *_QUESTIONS))}"
        raise UnusableError(RejectReason.NO_MESSAGES, detail)
    return _text_or_turns(fields.take(question), question, "user", left_out) + answer


def _pair(fields: Fields, left_out: set[str], question: str, answer: str) -> list[Message]:
    if question == "instruction":
        asked = [_turn("user", _instruction(fields))]
    else:
        asked = _text_or_turns(fields.take(question), question, "user", left_out)
    answered = _text_or_turns(fields.take(answer), answer, "assistant", left_out)
    return [*_history(fields), *asked, *answered]


def _instruction(fields: Fields) -> str:
    """Return an instruction and, below it, what it is about."""
    parts = [text_of(fields.take("instruction"), "instruction")]
    for name in ("input", "context"):
        if name in fields and (text := text_of(fields.take(name), name)).strip():
            parts.append(text)
    return "\n\n".join(parts)


def _history(fields: Fields) -> list[Message]:
    """Return the earlier questions and answers, in pairs, as turns."""
    if "history" not in fields:
        return []
    turns = []
    for index, pair in enumerate(list_of(fields.take("history"), "history")):
        place = f"history[{index}]"
        texts = list_of(pair, place)
        if len(texts) != 2:
            raise wrong(place, "a question and its answer", pair)
        for role, text in zip(("user", "assistant"), texts, strict=True):
            turns.append(_turn(role, text_of(text, place)))
    return turns


def _add_beside(row: Row, fields: Fields) -> None:
    """Add the system turn and the tools that stand beside a dialogue."""
    if row["schema"] in ("paper", "text"):
        return
    if name := fields.first(_SYSTEM):
        system = text_of(fields.take(name), name)
        own = [turn["content"] for turn in row["messages"] if turn["role"] == "system"]
        if own and system.strip() and system not in own:
            detail = f"{name}: differs from the system turn of the dialogue; keep one of them"
            raise UnusableError(RejectReason.WRONG_TYPE, detail)
        if system.strip() and not own:
            row["messages"].insert(0, _turn("system", system))
    if name := fields.first(_TOOLS):
        given = fields.take(name)
        if given and (tools := tools_of(given, name)):
            row["tools"] = tools


def _check(messages: Sequence[Message], side: Side, schema: str) -> None:
    if not messages:
        raise UnusableError(RejectReason.NO_MESSAGES, "the list of messages is empty")
    templated = any(ASSISTANT_HEADER in turn["content"] for turn in messages)
    if side == "pool" and schema == "paper" and templated:
        # A pool row is encoded from its messages, which would put the template on twice.
        detail = "`prompts` holds answers inside its template; a pool row needs messages"
        raise UnusableError(RejectReason.WRONG_TYPE, detail)
    if not any(_says(turn) for turn in messages):
        raise UnusableError(RejectReason.EMPTY_TEXT, "every message is empty")
    # An empty answer is kept: the paper's code trains on its end-of-text token.
    if not any(turn["role"] == "assistant" for turn in messages):
        raise UnusableError(RejectReason.NO_ASSISTANT_TURN, "no message has the role assistant")


def _says(turn: Message) -> bool:
    return bool(turn["content"].strip() or "tool_calls" in turn or "reasoning_content" in turn)


def _trains(turn: Message) -> bool:
    return bool(turn.get("trained", turn["role"] == "assistant"))


def _train_last(messages: Sequence[Message]) -> None:
    last = max(i for i, turn in enumerate(messages) if turn["role"] == "assistant")
    for turn in messages[:last]:
        if _trains(turn):
            turn["trained"] = []


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


def _text_or_turns(value: object, name: str, role: str, left_out: set[str]) -> list[Message]:
    if isinstance(value, str | bytes):
        return [_turn(role, text_of(value, name))]
    if not isinstance(value, list | tuple | dict):
        raise wrong(name, "text or a list of messages", value)
    return turns_of(value, name, left_out)


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}
