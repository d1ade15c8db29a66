"""axolotl's `chat_template` data sets: turns, with `training` and `training_detail` where not all is trained.

Tools and arguments of calls are JSON text, which it reads: as objects, a table would fill in what one
call lacks and another has. Its `training_detail` counts the last character of a part in.
"""

from __future__ import annotations

import json

from tis_ray.data.forms.form import (
    PLAIN_TEXT,
    Fields,
    Form,
    Formed,
    Said,
    Setting,
    beside,
    plain_text,
    trained,
)
from tis_ray.data.rows import Message, Row


def say(row: Row) -> Said:
    """Return a row as `messages`, plain text as `text`."""
    if (text := plain_text(row)) is not None:
        return Said({"text": text}, PLAIN_TEXT)
    said: Fields = {"messages": [_turn(turn) for turn in row["messages"]]}
    if "tools" in row:
        said["tools"] = json.dumps(row["tools"], ensure_ascii=False)
    return Said(said)


def _turn(turn: Message) -> Fields:
    said: Fields = beside(turn, "role", "content", "reasoning_content", "tool_call_id", "name")
    if "tool_calls" in turn:
        said["tool_calls"] = [
            {
                **call,
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                },
            }
            for call in turn["tool_calls"]
        ]
    if turn["role"] == "assistant":
        said["training"] = trained(turn) != "none"
    if trained(turn) == "part":
        said["training_detail"] = _detail(turn)
    return said


def _detail(turn: Message) -> list[Fields]:
    """Return what of a turn is trained, and what is not, in order and without a gap."""
    parts: list[Fields] = []
    end = 0
    for begin, stop in turn["trained"]:
        if end < begin:
            parts.append({"begin_offset": end, "end_offset": begin - 1, "train": False})
        parts.append({"begin_offset": begin, "end_offset": stop - 1, "train": True})
        end = stop
    if end < len(turn["content"]):
        last = len(turn["content"]) - 1
        parts.append({"begin_offset": end, "end_offset": last, "train": False})
    return parts


def stanza(at: Setting, rows: Formed) -> str:
    """Return the part of a config that reads a file."""
    if rows.layout == PLAIN_TEXT:
        return f"""\
base_model: {json.dumps(at.model)}
sequence_len: {at.max_length}
datasets:
  - path: {json.dumps(at.path)}
    ds_type: json
    type: completion
    field: text
"""
    template = "chat_template: tokenizer_default"
    if at.template is not None:
        template = f"chat_template: jinja\nchat_template_jinja: {json.dumps(at.template)}"
    return f"""\
base_model: {json.dumps(at.model)}
{template}
sequence_len: {at.max_length}
train_on_inputs: false
datasets:
  - path: {json.dumps(at.path)}
    ds_type: json
    type: chat_template
    field_messages: messages
    roles_to_train: [assistant]
    train_on_eos: turn
    message_field_training: training
    message_field_training_detail: training_detail
"""


FORM = Form("axolotl", say, stanza)
