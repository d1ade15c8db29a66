"""The row contract: which records are accepted, how they are converted, and why others are rejected.

A row is `{"id", "source", "messages"}`, where messages is a list of `{"role", "content"}` with the
roles system, user and assistant. Records of these shapes are converted:

- `messages`: OpenAI style
- `conversations`: ShareGPT, with `from`/`value` (or `role`/`content`)
- `prompt` and `completion`: texts, or lists of messages as in TRL
- `instruction`, `output` and optionally `input`: Alpaca
- `prompts` and `labels`: the paper's query files, where `prompts` already carries the chat template.
  On the query and test sides both texts stay in the row, as `prompt` and `label`, because they are
  encoded as they are (`encode_query_row`); `messages` is split out of them for whatever reads text.

`id` is kept as text; a row without one gets the hash of its content, with `-2`, `-3`, ... for repeats
(a pool may hold a row twice). `source` (or `dataset`) labels the origin; a row without one gets the
stem of the file's name. A null field counts as absent, because Parquet fills missing fields with null.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

from tis_ray.data.tulu import ASSISTANT_HEADER
from tis_ray.errors import InputError

Side = Literal["pool", "query", "test"]

ROLES = ("system", "user", "assistant")
FIELDS = (
    *("id", "source", "dataset", "messages", "conversations", "prompt", "completion"),
    *("instruction", "input", "output", "prompts", "labels"),
)
EXPECTED = "messages, conversations, prompt/completion, instruction/output or prompts/labels"

_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
_TULU_HEADER = re.compile(r"^<\|(system|user|assistant)\|>\n", re.MULTILINE)


class Message(TypedDict):
    """One turn."""

    role: str
    content: str
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    trained: NotRequired[list[tuple[int, int]]]


class Row(TypedDict):
    """A usable example. Only rows that are encoded as they are have `prompt` and `label`."""

    id: str
    source: str
    messages: list[Message]
    tools: NotRequired[list[dict[str, Any]]]
    prompt: NotRequired[str]
    label: NotRequired[str]


StoredRow: TypeAlias = dict[str, Any]
"""A usable row as a study stores it: `row` (its number on its side), `id`, `source` and either

- what was read: `messages`, and for rows that are encoded as they are `prompt` and `label`; or
- what became of it: `input_ids` and `labels` (see `Encoded`), `response_tokens`, `content` (a hash of
  what the row says), and `text` for a representation that reads text.
"""


class RejectReason(StrEnum):
    """Why a row cannot be used.

    The last five are found after reading: two when the row is encoded, three when the pool is
    screened (`tis_ray.stages.screen`).
    """

    BAD_JSON = "bad_json"
    WRONG_TYPE = "wrong_type"
    NO_MESSAGES = "no_messages"
    UNKNOWN_ROLE = "unknown_role"
    NO_ASSISTANT_TURN = "no_assistant_turn"
    EMPTY_TEXT = "empty_text"
    DUPLICATE_ID = "duplicate_id"
    LABELS_ALL_MASKED = "labels_all_masked"
    TEMPLATE_REJECTED = "template_rejected"
    OVERLAPS_TEST = "overlaps_test"
    OVERLAPS_QUERY = "overlaps_query"
    EXCLUDED = "excluded"


@dataclass(frozen=True)
class Rejected:
    """A row for the quarantine: where it is (line or row number, from 1) and what is wrong with it."""

    file: str
    line: int
    id: str | None
    reason: RejectReason
    detail: str


@dataclass(frozen=True)
class Record:
    """What a reader found in one place: a value or, if `broken` is set, text that is not JSON."""

    file: str
    line: int
    value: object
    default_source: str
    broken: str | None = None


class _UnusableError(Exception):
    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail if len(detail) <= 300 else f"{detail[:300]}..."


def checked_rows(records: Iterable[Record], side: Side = "pool") -> Iterator[Row | Rejected]:
    """Yield, for each record in order, the row it holds or the reason why it holds none.

    Memory grows only with the number of ids.
    """
    seen: set[str] = set()
    copies: dict[str, int] = {}
    for record in records:
        try:
            row = _row(record, side)
            if row["id"]:
                if row["id"] in seen:
                    detail = "an earlier row has this id; give each row its own, or no id at all"
                    raise _UnusableError(RejectReason.DUPLICATE_ID, detail)
            else:
                row["id"] = _unused(content_id(row), seen, copies)
        except _UnusableError as error:
            given = _readable_id(record.value)
            yield Rejected(record.file, record.line, given, error.reason, error.detail)
            continue
        seen.add(row["id"])
        yield row


def sample_rows(rows: Iterable[Row | Rejected], n: int, seed: int = 0) -> Iterator[Row | Rejected]:
    """Yield a uniform sample of `n` rows, without replacement, in the order they came.

    A row's chance depends only on (seed, id), through a hash whose n lowest values are kept: the
    sample does not change when the pool is reordered or split, and a smaller sample is part of a
    larger one. Holds n rows in memory. All rejected rows are passed on: sampling must not hide them.
    """
    if n < 1:
        raise InputError(f"sample: {n} rows cannot be drawn; give 1 or more")
    key = f"tis_ray sample {seed}".encode()
    lowest: list[tuple[int, int, Row]] = []  # a heap whose top is the row to give up next
    rejected: list[tuple[int, Rejected]] = []
    for place, row in enumerate(rows):
        if isinstance(row, Rejected):
            rejected.append((place, row))
            continue
        digest = blake2b(row["id"].encode(), key=key, digest_size=8).digest()
        entry = (-int.from_bytes(digest), -place, row)
        if len(lowest) < n:
            heapq.heappush(lowest, entry)
        elif entry[:2] > lowest[0][:2]:
            heapq.heapreplace(lowest, entry)
    kept: list[tuple[int, Row | Rejected]] = [(-place, row) for _, place, row in lowest]
    yield from (row for _, row in sorted([*kept, *rejected], key=lambda entry: entry[0]))


def content_id(row: Mapping[str, Any]) -> str:
    """Return 32 hexadecimal digits of BLAKE2b over a row's text: its turns, `prompt` and `label`."""
    content: list[object] = [[turn["role"], turn["content"]] for turn in row["messages"]]
    if "prompt" in row:
        content = [content, row["prompt"], row["label"]]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _row(record: Record, side: Side) -> Row:
    if record.broken is not None:
        raise _UnusableError(RejectReason.BAD_JSON, record.broken)
    value = record.value
    if not isinstance(value, Mapping):
        raise _wrong("row", "an object", value)
    fields = {str(key): field for key, field in value.items() if field is not None}
    row: Row = {
        "id": _label(fields.get("id", ""), "id"),
        "source": _label(fields.get("source", fields.get("dataset", "")), "source"),
        "messages": [],
    }
    row["source"] = row["source"] or record.default_source
    if "prompts" in fields and "labels" in fields:
        row["prompt"] = _text(fields["prompts"], "prompts")
        row["label"] = _text(fields["labels"], "labels")
    row["messages"] = _messages(fields)
    if side == "pool" and "prompt" in row:
        # A pool row is encoded from its messages, which would put the template on twice.
        if any(ASSISTANT_HEADER in turn["content"] for turn in row["messages"]):
            detail = "`prompts` holds answers inside its template; a pool row needs messages"
            raise _UnusableError(RejectReason.WRONG_TYPE, detail)
        del row["prompt"], row["label"]
    _check(row["messages"])
    return row


def _messages(fields: Mapping[str, Any]) -> list[Message]:
    if "prompts" in fields and "labels" in fields:
        return [*_template_turns(fields["prompts"]), _turn("assistant", fields["labels"])]
    if "messages" in fields:
        return _turns(fields["messages"], "messages")
    if "conversations" in fields:
        return _turns(fields["conversations"], "conversations")
    if "prompt" in fields and "completion" in fields:
        prompt = _text_or_turns(fields["prompt"], "prompt", "user")
        return prompt + _text_or_turns(fields["completion"], "completion", "assistant")
    if "instruction" in fields and "output" in fields:
        question = _text(fields["instruction"], "instruction")
        context = _text(fields.get("input", ""), "input")
        if context.strip():
            question = f"{question}\n\n{context}"
        return [_turn("user", question), _turn("assistant", _text(fields["output"], "output"))]
    names = ", ".join(sorted(fields)) or "nothing"
    raise _UnusableError(RejectReason.NO_MESSAGES, f"expected {EXPECTED}; found {names}")


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise _UnusableError(RejectReason.NO_MESSAGES, "the list of messages is empty")
    for index, turn in enumerate(messages):
        if turn["role"] not in ROLES:
            detail = f"messages[{index}]: found role {turn['role']!r}; expected {', '.join(ROLES)}"
            raise _UnusableError(RejectReason.UNKNOWN_ROLE, detail)
    if not any(turn["content"].strip() for turn in messages):
        raise _UnusableError(RejectReason.EMPTY_TEXT, "every message is empty")
    # An empty answer is kept: the paper's code trains on its end-of-text token.
    if not any(turn["role"] == "assistant" for turn in messages):
        raise _UnusableError(RejectReason.NO_ASSISTANT_TURN, "no message has the role assistant")


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


def _text_or_turns(value: object, field: str, role: str) -> list[Message]:
    return [_turn(role, value)] if isinstance(value, str) else _turns(value, field)


def _turns(value: object, field: str) -> list[Message]:
    if not isinstance(value, list | tuple):
        raise _wrong(field, "a list", value)
    turns = []
    for index, turn in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(turn, Mapping):
            raise _wrong(place, "an object with role and content", turn)
        sharegpt = turn.get("role") is None and turn.get("from") is not None
        role_field, content_field = ("from", "value") if sharegpt else ("role", "content")
        role = _text(turn.get(role_field), f"{place}.{role_field}")
        content = _text(turn.get(content_field), f"{place}.{content_field}")
        turns.append(_turn(_SHAREGPT_ROLES.get(role, role) if sharegpt else role, content))
    return turns


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise _wrong(field, "text", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON allows half of an escaped pair; no tokenizer does
            detail = f"{field}: holds half of a UTF-16 surrogate pair"
            raise _UnusableError(RejectReason.WRONG_TYPE, detail) from None
    return value


def _label(value: object, field: str) -> str:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_integer else _text(value, field)


def _readable_id(value: object) -> str | None:
    try:
        return _label(value.get("id"), "id") or None if isinstance(value, Mapping) else None
    except _UnusableError:
        return None


def _unused(base: str, seen: set[str], copies: dict[str, int]) -> str:
    name = base
    while name in seen:
        copies[base] = copies.get(base, 1) + 1
        name = f"{base}-{copies[base]}"
    return name


def _wrong(field: str, expected: str, value: object) -> _UnusableError:
    kind = "null" if value is None else type(value).__name__
    return _UnusableError(RejectReason.WRONG_TYPE, f"{field}: expected {expected}, found {kind}")
