"""Dialogues of which trainers are told what to train: whole, in part, with tools, without a prompt."""

from __future__ import annotations

from typing import Any

from tis_ray.data import Rejected, Row, checked_rows
from tis_ray.data.rows import Record


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def _tool(name: str, argument: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [_tool("add", "a"), _tool("say", "t")]
TWO = [_user("one"), _assistant("uno"), _user("two"), _assistant("dos")]
LAST = [_user("one"), _assistant("uno", weight=0), _user("two"), _assistant("dos")]
ROWS: dict[str, list[dict[str, Any]]] = {
    "single": [
        {"messages": [_user("one"), _assistant("uno")]},
        {"messages": [{"role": "system", "content": "brief"}, _user("two"), _assistant("dos")]},
    ],
    "multi": [{"messages": TWO}, {"messages": [_user("q"), _assistant("r")]}],
    "last": [{"messages": LAST}, {"messages": [_user("q"), _assistant("r")]}],
    "tail": [
        {"messages": [*TWO[:3], _assistant("dos", train=False)]},
        {"messages": [_user("q"), _assistant("r"), _user("bye")]},
    ],
    "gap": [
        {"messages": [*TWO[:3], _assistant("dos", train=False), _user("3"), _assistant("tres")]}
    ],
    "part": [
        {
            "messages": [
                _user("one"),
                _assistant(
                    "think hard. uno",
                    train_detail=[{"begin_offset": 12, "end_offset": 14, "train": True}],
                ),
            ]
        }
    ],
    "tools": [
        {
            "messages": [
                _user("add 1"),
                _assistant("", tool_calls=[_call("add", {"a": 1})]),
                {"role": "tool", "content": "2", "tool_call_id": "c1"},
                _assistant("it is 2"),
            ],
            "tools": TOOLS,
        },
        {
            "messages": [
                _user("say x"),
                _assistant("", tool_calls=[_call("say", {"t": "x", "n": [1]})]),
                {"role": "tool", "content": "ok"},
                _assistant("said"),
            ],
            "tools": TOOLS,
        },
        {"messages": [_user("q"), _assistant("r")]},
    ],
    "text": [{"text": "once upon"}, {"text": "a time"}],
    "mixed": [{"text": "once"}, *({"messages": [_user(q), _assistant("r")]} for q in "ab")],
    "conflict": [{"messages": LAST}, {"messages": TWO}, {"messages": [_user("1"), *TWO[1:]]}],
    "greeting": [{"messages": [_assistant("hello"), _user("q"), _assistant("r")]}],
}
"""Records by kind."""


def read(kind: str) -> list[Row]:
    """Return the rows of a kind as a pool reads them."""
    records = (Record(f"{kind}.jsonl", n, value) for n, value in enumerate(ROWS[kind], 1))
    rows = [*checked_rows(records)]
    assert not any(isinstance(row, Rejected) for row in rows)
    return rows  # type: ignore[return-value]
