"""OpenAI's form: `messages` and `tools`; an answer that is not trained has `weight: 0`."""

from __future__ import annotations

import json

from tis_ray.data.forms.form import (
    Fields,
    Form,
    Said,
    UnsaidError,
    beside,
    plain_text,
    whole_answers,
)
from tis_ray.data.rows import Row, ToolCall


def say(row: Row) -> Said:
    """Return a dialogue in OpenAI's form: arguments of calls are JSON text."""
    if plain_text(row) is not None:
        raise UnsaidError("it is plain text and no dialogue; use --form original")
    turns = []
    for turn, whole in zip(row["messages"], whole_answers(row), strict=True):
        said: Fields = {"role": turn["role"], "content": turn["content"]}
        said |= beside(turn, "reasoning_content", "tool_call_id", "name")
        if "tool_calls" in turn:
            said["tool_calls"] = [_call(call) for call in turn["tool_calls"]]
        if turn["role"] == "assistant" and not whole:
            said["weight"] = 0
        turns.append(said)
    return Said({"messages": turns, **({"tools": row["tools"]} if "tools" in row else {})})


def _call(call: ToolCall) -> Fields:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {"name": function["name"], "arguments": arguments}}


FORM = Form("messages", say, noted=True)
