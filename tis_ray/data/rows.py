"""What a row is: the usable example that every reader ends in, and the reason where there is none.

A row is a dialogue of messages with where it stands: `file` and `line`, by which its record is found
again (`tis_ray.data.original_records`), and the id that it was given. Which records become rows, and
how, is in `tis_ray.data.schemas`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

Side = Literal["pool", "query", "test"]

ROLES = ("system", "developer", "user", "assistant", "tool")


class FunctionCall(TypedDict):
    """The function that is called, by name, and its arguments by their names."""

    name: str
    arguments: dict[str, Any]


class ToolCall(TypedDict):
    """A call of a tool in OpenAI's form."""

    id: NotRequired[str]
    type: Literal["function"]
    function: FunctionCall


class Message(TypedDict):
    """One turn; what is absent was not in the record.

    trained: spans of characters of `content` that are trained, in order. Absent: all of it with its end
        mark, if the assistant wrote it, else nothing. `[]`: nothing of it.
    """

    role: str
    content: str
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    trained: NotRequired[list[tuple[int, int]]]


class Row(TypedDict):
    """A usable example.

    `prompt` and `label` are there only in rows that are encoded as they are, `tools` (JSON schemas of
    functions) where the record has some. `file` is a path within the source; `line` counts from 1: a
    line, an element of an array, or a row of a table. `given_id` is the id as it was written. `schema`
    and `left_out` say how the record was read, and which of its fields had no part in that. `content` is the
    hash of what it says (`content_id`).
    """

    id: str
    source: str
    messages: list[Message]
    tools: NotRequired[list[dict[str, Any]]]
    prompt: NotRequired[str]
    label: NotRequired[str]
    file: NotRequired[str]
    line: NotRequired[int]
    given_id: NotRequired[str]
    content: NotRequired[str]
    schema: NotRequired[str]
    left_out: NotRequired[list[str]]


StoredRow: TypeAlias = dict[str, Any]
"""A usable row as a study stores it: `row` (its number on its side), `id`, `source` and either

- what was read: the fields of `Row`, without `schema` and `left_out`; or
- what became of it: `input_ids` and `labels` (see `Encoded`), `response_tokens`, `content` (a hash of
  what the row says), and `text` for a representation that reads text.
"""


class RejectReason(StrEnum):
    """Why a row cannot be used.

    The last five are found after reading: two when the row is encoded, three when the pool is
    screened (`tis_ray.stages.screen`).
    """

    BAD_JSON = "bad_json"
    """A line that is not JSON, or an object with a key twice."""
    WRONG_TYPE = "wrong_type"
    """A field of another type than the schema's, or text that is not valid Unicode."""
    NOT_TEXT = "not_text"
    """An image, audio, ..., as a part of a message or beside it."""
    NO_MESSAGES = "no_messages"
    """No known schema, or an empty list."""
    UNKNOWN_ROLE = "unknown_role"
    """A role that none of the schemas has."""
    NO_ASSISTANT_TURN = "no_assistant_turn"
    """Nothing to learn from."""
    NOTHING_TRAINED = "nothing_trained"
    """A pool row that is left out, or all of whose answers are, by `weight` or `train`."""
    UNDESIRABLE = "undesirable"
    """`label` or `kto_tag` says that the answer is a bad one."""
    EMPTY_TEXT = "empty_text"
    """Every message is empty."""
    DUPLICATE_ID = "duplicate_id"
    """An id that an earlier row of the file has."""
    LABELS_ALL_MASKED = "labels_all_masked"
    """The prompt fills `max_length`, so no answer token is left."""
    TEMPLATE_REJECTED = "template_rejected"
    """The chat template refuses the dialogue, or leaves out what a turn says."""
    OVERLAPS_TEST = "overlaps_test"
    """The row repeats a test row, and `overlap.test` drops those."""
    OVERLAPS_QUERY = "overlaps_query"
    """The row repeats a query, and `overlap.query` drops those."""
    EXCLUDED = "excluded"
    """Named by `constraints.exclude`."""
    REPEATS_POOL_ROW = "repeats_pool_row"
    """The row repeats an earlier row of the pool, and `overlap.pool` drops those."""


class UnusableError(Exception):
    """A record cannot become a row; it ends as a `Rejected`."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail if len(detail) <= 300 else f"{detail[:300]}..."


@dataclass(frozen=True)
class Rejected:
    """A row for the quarantine: where it is (as in `Row`) and what is wrong with it."""

    file: str
    line: int
    id: str | None
    reason: RejectReason
    detail: str


@dataclass(frozen=True)
class Record:
    """What a reader found in one place.

    value: as the file has it. broken: why there is none. more: what the file's place says about it
        (`lang=de/`), for fields that it lacks. unread: columns that were not read.
    """

    file: str
    line: int
    value: object
    default_source: str = ""
    broken: UnusableError | None = None
    more: Mapping[str, str] | None = None
    unread: tuple[str, ...] = ()


def content_id(row: Mapping[str, Any]) -> str:
    """Return 32 hexadecimal digits of BLAKE2b over what a row says: its turns, tools, prompt and label."""
    content: list[object] = [_said(turn) for turn in row["messages"]]
    if "prompt" in row:
        content = [content, row["prompt"], row["label"]]
    if "tools" in row:
        content = [content, {"tools": row["tools"]}]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _said(turn: Mapping[str, Any]) -> list[object]:
    said: list[object] = [turn["role"], turn["content"]]
    if len(turn) > 2:
        said.append({key: turn[key] for key in sorted(turn) if key not in ("role", "content")})
    return said
