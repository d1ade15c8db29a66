"""The turns of a dialogue: OpenAI's `role`/`content`, ShareGPT's `from`/`value`, and what stands beside.

- Roles are told by name, whatever their case: `human` is the user, `gpt` and its like the assistant,
  `observation` and `function` a tool, `function_call` an assistant that calls one.
- `content` is text, or a list of parts whose texts are joined; a part that is no text (an image, audio)
  makes the row `not_text`.
- `tool_calls` and OpenAI's older `function_call` become one form, with arguments as an object.
- `weight` (OpenAI: 0 or 1), `train` and `train_detail` (axolotl) say what is trained. As in axolotl the
  offsets of `train_detail` include their end, a later one covers an earlier one, and what none covers
  is not trained. Only turns of the assistant are trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tis_ray.data.rows import ROLES, Message, RejectReason, ToolCall, UnusableError
from tis_ray.data.values import Fields, check_json, json_of, list_of, text_of, wrong

_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bard", "bing"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
    **{name: name for name in ("system", "developer")},
}
_PLAIN = {"role", "content"}
_CALL = "function_call"
_TEXT_PARTS = ("text", "input_text", "output_text")


def turns_of(value: object, field: str, left_out: set[str]) -> list[Message]:
    """Return a dialogue; add to `left_out` the fields of its turns that mean nothing here.

    value: a list of turns, the JSON text of one, or an object of equally long lists.
    """
    if isinstance(value, dict):
        value = _as_list_of_turns(value, field)
    turns: list[Message] = []
    for index, turn in enumerate(list_of(value, field)):
        place = f"{field}[{index}]"
        if not isinstance(turn, dict):
            raise wrong(place, "an object with role and content", turn)
        if turn.keys() == _PLAIN and turn["role"] in ROLES and isinstance(turn["content"], str):
            # As most turns are, so that a pool of them is read twice as fast.
            text = text_of(turn["content"], f"{place}.content")
            turns.append({"role": turn["role"], "content": text})
            continue
        fields = Fields(turn)
        turns.append(_turn(fields, place))
        left_out.update(f"{field}[].{name}" for name in fields.left)
    return turns


def calls_of(value: object, field: str) -> list[ToolCall]:
    """Return calls of tools in OpenAI's form, from that form or from bare `{name, arguments}`."""
    calls = list_of(value, field)
    return [_call(call, f"{field}[{index}]") for index, call in enumerate(calls)]


def tools_of(value: object, field: str) -> list[dict[str, Any]]:
    """Return the JSON schemas of tools, which may be given as JSON text, whole or one by one."""
    tools: list[dict[str, Any]] = []
    for index, tool in enumerate(list_of(value, field)):
        place = f"{field}[{index}]"
        if isinstance(tool, str):
            tool = json_of(tool, place, "an object")
        if not isinstance(tool, dict):
            raise wrong(place, "an object", tool)
        tools.append(dict(tool))
    check_json(tools, field)
    return tools


def call_turn(content: str, field: str) -> Message:
    """Return the assistant's turn that a ShareGPT `function_call` is: the JSON text of one call or more."""
    call = json_of(content, field, "the JSON of a call")
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": calls_of(call if isinstance(call, list) else [call], field),
    }


def _as_list_of_turns(value: Mapping[object, object], field: str) -> list[dict[object, object]]:
    columns = {name: column for name, column in value.items() if column is not None}
    if not columns or not all(isinstance(column, list | tuple) for column in columns.values()):
        raise wrong(field, "a list", value)
    lists: dict[object, Sequence[object]] = columns  # type: ignore[assignment]
    if len({len(column) for column in lists.values()}) > 1:
        lengths = ", ".join(f"{len(column)} of {name}" for name, column in lists.items())
        raise UnusableError(
            RejectReason.WRONG_TYPE, f"{field}: its lists differ in length ({lengths})"
        )
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _turn(fields: Fields, place: str) -> Message:
    sharegpt = "role" not in fields and "from" in fields
    role_field = "from" if sharegpt else "role"
    content_field = "value" if "content" not in fields and "value" in fields else "content"
    if sharegpt and "content" not in fields:
        content_field = "value"
    given = text_of(fields.take(role_field), f"{place}.{role_field}")
    role = given.strip().lower()
    content = fields.take(content_field)
    calls = fields.take("tool_calls") or []
    if not calls and _CALL in fields:
        calls = [fields.take(_CALL)]
    if content is None and calls:
        content = ""
    text = _content(content, f"{place}.{content_field}")
    if role == _CALL:
        return call_turn(text, f"{place}.{content_field}")
    if role not in _ROLES:
        detail = f"{place}: found role {given!r}; expected {', '.join(_ROLES)} or {_CALL}"
        raise UnusableError(RejectReason.UNKNOWN_ROLE, detail)
    turn: Message = {"role": _ROLES[role], "content": text}
    if calls:
        turn["tool_calls"] = calls_of(calls, f"{place}.tool_calls")
    for name in ("reasoning_content", "tool_call_id", "name"):
        if name in fields:
            turn[name] = text_of(fields.take(name), f"{place}.{name}")  # type: ignore[literal-required]
    trained = _trained(fields, text, turn["role"] == "assistant", place)
    if trained is not None:
        turn["trained"] = trained
    return turn


def _content(value: object, field: str) -> str:
    if not isinstance(value, list | tuple):
        return text_of(value, field)
    texts = []
    for index, part in enumerate(value):
        place = f"{field}[{index}]"
        if isinstance(part, dict):
            kind = part.get("type") or ("text" if "text" in part else None)
            if kind not in _TEXT_PARTS:
                detail = f"{place}: is of type {kind!r}; only text can be used"
                raise UnusableError(RejectReason.NOT_TEXT, detail)
            part, place = part.get("text"), f"{place}.text"
        texts.append(text_of(part, place))
    return "".join(texts)


def _call(value: object, place: str) -> ToolCall:
    if not isinstance(value, dict):
        raise wrong(place, "an object with a function", value)
    function = value.get("function") or value
    if not isinstance(function, dict):
        raise wrong(f"{place}.function", "an object with name and arguments", function)
    arguments = function.get("arguments")
    if isinstance(arguments, str | bytes):
        text = text_of(arguments, f"{place}.arguments")
        arguments = json_of(text, f"{place}.arguments", "an object") if text.strip() else None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise wrong(f"{place}.arguments", "an object", arguments)
    check_json(arguments, f"{place}.arguments")
    name = text_of(function.get("name"), f"{place}.name")
    call: ToolCall = {
        "type": "function",
        "function": {"name": name, "arguments": {str(k): v for k, v in arguments.items()}},
    }
    if value.get("id") is not None:
        call = {"id": text_of(value["id"], f"{place}.id"), **call}
    return call


def _trained(fields: Fields, text: str, answers: bool, place: str) -> list[tuple[int, int]] | None:
    """Return the spans that are trained; None for the rule of the role."""
    train, detail = fields.take("train"), fields.take("train_detail")
    weight = fields.take("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise wrong(f"{place}.weight", "0 or 1", weight)
    if train is not None and not isinstance(train, bool):
        raise wrong(f"{place}.train", "true or false", train)
    if not answers:
        # Only what the assistant wrote is ever trained; that more was wanted is said as left out.
        for name in ("train", "train_detail") if train is not False else ():
            fields.put_back(name)
        return None
    if train is False or weight == 0:
        return []
    if detail is not None:
        return _detailed(list_of(detail, f"{place}.train_detail"), text, f"{place}.train_detail")
    return None


def _detailed(parts: list[object], text: str, field: str) -> list[tuple[int, int]]:
    covered = bytearray(len(text))
    for index, part in enumerate(parts):
        place = f"{field}[{index}]"
        if not isinstance(part, dict):
            raise wrong(place, "an object with begin_offset, end_offset and train", part)
        begin, end, train = (part.get(k) for k in ("begin_offset", "end_offset", "train"))
        if not isinstance(train, bool):
            raise wrong(f"{place}.train", "true or false", train)
        if not isinstance(begin, int) or not isinstance(end, int):
            raise wrong(f"{place}.begin_offset and end_offset", "integers", begin)
        if not 0 <= begin <= end < len(text):
            detail = f"{place}: offsets {begin} to {end} are not within the {len(text)} characters"
            raise UnusableError(RejectReason.WRONG_TYPE, detail)
        covered[begin : end + 1] = bytes([train]) * (end + 1 - begin)
    return _runs(covered)


def _runs(covered: bytearray) -> list[tuple[int, int]]:
    """Return the spans of ones."""
    spans, end = [], 0
    while (begin := covered.find(1, end)) >= 0:
        end = covered.find(0, begin)
        end = len(covered) if end < 0 else end
        spans.append((begin, end))
    return spans
