"""Reading of a record as a row: its fields under the names they have here, a schema, and what stands beside.

`source` (or `dataset`) labels the origin, and `id` is kept as text. A null field counts as absent,
because tables fill missing fields with null. What nothing was read of is named in `left_out`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from tis_ray.data.marks import check_marks
from tis_ray.data.rows import Message, Record, RejectReason, Row, Side, UnusableError
from tis_ray.data.schemas import SYSTEM, TOOLS, schema_of
from tis_ray.data.tulu import ASSISTANT_HEADER
from tis_ray.data.turns import TURN_FIELDS, tools_of
from tis_ray.data.values import Fields, label_of, text_of, wrong
from tis_ray.errors import InputError


@dataclass(frozen=True)
class Reading:
    """How the records of one source are read.

    columns: where a field stands, by the field: its name, or the path to it with dots; of `role` and
    `content`, their names in a turn. train_on: which answers of a dialogue are trained.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    train_on: Literal["all", "last"] = "all"

    @cached_property
    def fields(self) -> dict[str, str]:
        """The columns that are fields of a record."""
        return {name: path for name, path in self.columns.items() if name not in TURN_FIELDS}

    @cached_property
    def turns(self) -> dict[str, str]:
        """The columns that are fields of a turn."""
        return {name: path for name, path in self.columns.items() if name in TURN_FIELDS}


def row_of(record: Record, side: Side, reading: Reading) -> Row:
    """Return the row that a record holds, with the id that it was given or "".

    Raises UnusableError where it holds none.
    """
    if record.broken is not None:
        raise record.broken
    if not isinstance(record.value, dict):
        raise wrong("row", "an object", record.value)
    fields = _fields(record, reading)
    given, left_out = label_of(fields.take("id"), "id"), set[str]()
    source = label_of(fields.take("source"), "source")
    if "dataset" in fields and not source:
        source = label_of(fields.take("dataset"), "dataset")
    row: Row = {"id": given, "source": source or record.default_source, "messages": []}
    schema = schema_of(fields, reading.fields)
    row["schema"], row["messages"] = schema.name, schema.read(fields, left_out)
    _add_beside(row, fields)
    check_marks(fields, side)
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
    replaced = [name for name in reading.fields if _is_replaced(record.value, name, reading)]
    if left := sorted({*fields.left, *left_out, *replaced, *record.unread}):
        row["left_out"] = left
    return row


def given_id(record: Record, reading: Reading) -> str | None:
    """Return the id of a record that cannot be used; None where it has none that can be read."""
    if not isinstance(record.value, dict):
        return None
    try:
        return label_of(_fields(record, reading).take("id"), "id") or None
    except UnusableError:
        return None


def with_mapped(records: Iterable[Record], reading: Reading, where: str) -> Iterator[Record]:
    """Yield records unchanged. Raises InputError after the last if none had a field that `columns` names."""
    unseen = Unseen(reading)
    yield from unseen.watched(records)
    unseen.check(where)


class Unseen:
    """The fields that `columns` names and no record of a source had so far."""

    def __init__(self, reading: Reading) -> None:
        self.fields = {**reading.fields}
        self.objects = 0

    def watched(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield records unchanged."""
        for record in records:
            if self.fields and isinstance(record.value, dict):
                self.objects += 1
                had = {**(record.more or {}), **record.value}
                self.keep(n for n, p in self.fields.items() if p not in had and _at(had, p) is None)
            yield record

    def keep(self, names: Iterable[str], objects: int = 0) -> None:
        """Count other records, of which some had all but these."""
        left = {*names}
        self.fields = {name: path for name, path in self.fields.items() if name in left}
        self.objects += objects

    def check(self, where: str) -> None:
        """Raise InputError if there is one left."""
        if self.fields and self.objects:
            name, path = next(iter(self.fields.items()))
            raise InputError(
                f"{where}: columns: no row has {path!r}, named for {name}; check the name"
            )


def _fields(record: Record, reading: Reading) -> Fields:
    """Return a record's fields under the names that they have here."""
    assert isinstance(record.value, dict)
    values = dict(record.value)
    for name, value in (record.more or {}).items():
        if values.get(name) is None:
            values[name] = value
    if not reading.columns:
        return Fields(values)
    mapped = {name: _at(values, path) for name, path in reading.fields.items()}
    for path in reading.fields.values():
        values = _without(values, path)
    return Fields(values | mapped, reading.turns)


def _is_replaced(value: dict[str, object], name: str, reading: Reading) -> bool:
    """Return whether a record has a field itself that `columns` takes from elsewhere."""
    return value.get(name) is not None and name not in reading.fields.values()


def _at(values: object, path: str) -> object:
    if not isinstance(values, dict):
        return None
    if path in values:
        return values[path]
    first, _, rest = path.partition(".")
    return _at(values.get(first), rest) if rest else None


def _without(values: dict[str, object], path: str) -> dict[str, object]:
    """Return an object without what is at a path, and without what is empty for it."""
    first, _, rest = path.partition(".")
    inner = values.get(first)
    if path in values or not rest or not isinstance(inner, dict):
        return {name: value for name, value in values.items() if name != path}
    kept = _without(inner, rest)
    return {
        name: kept if name == first else v for name, v in values.items() if name != first or kept
    }


def _add_beside(row: Row, fields: Fields) -> None:
    """Add the system turn and the tools that stand beside a dialogue."""
    if row["schema"] in ("paper", "text"):
        return
    if name := fields.first(SYSTEM):
        system = text_of(fields.take(name), name)
        own = [turn["content"] for turn in row["messages"] if turn["role"] == "system"]
        if own and system.strip() and system not in own:
            detail = f"{name}: differs from the system turn of the dialogue; keep one of them"
            raise UnusableError(RejectReason.WRONG_TYPE, detail)
        if system.strip() and not own:
            row["messages"].insert(0, {"role": "system", "content": system})
    if name := fields.first(TOOLS):
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
