"""The turns of a dialogue: OpenAI's `role`/`content`, ShareGPT's `from`/`value`, and what stands beside.

- Roles are told by name, whatever their case: `human` is the user, `gpt` and its like the assistant,
  `observation` and `function` a tool, `function_call` an assistant that calls one.
- `content` is text, or a list of parts whose texts are joined; a part that is no text (an image, audio)
  makes the row `not_text`.
- `tool_calls` and OpenAI's older `function_call` become one form, with arguments as an object.
- An object without a role that holds a question and its answer (`input`, `output`; `human`, `assistant`)
  is two turns.
- `weight` (OpenAI: 0 or 1), `train`, `training` and `train_detail` (axolotl), `loss` (ms-swift) say what is trained. As in axolotl the
  offsets of `train_detail` include their end, a later one covers an earlier one, and what none covers
  is not trained. Only turns of the assistant are trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tis_ray.data.marks import check_media
from tis_ray.data.rows import ROLES, Message, RejectReason, ToolCall, UnusableError
from tis_ray.data.values import Fields, check_json, json_of, list_of, text_of, wrong

_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bard", "bing"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
    **{name: name for name in ("system", "developer")},
}
_SPEAKERS = (("system",), ("user", "human", "input"), ("assistant", "gpt", "bot", "output"))
_TRAIN = ("train", "training", "loss")
_PLAIN = {"role", "content"}
_CALL = "function_call"
_TEXT_PARTS = ("text", "input_text", "output_text")


TURN_FIELDS = ("role", "content")
"""Fields of a turn that may have other names."""


def turns_of(
    value: object, field: str, left_out: set[str], names: Mapping[str, str] | None = None
) -> list[Message]:
    """Return a dialogue; add to `left_out` the fields of its turns that mean nothing here.

    names: other names of TURN_FIELDS, by these.
    value: a list of turns, the JSON text of one, or an object of equally long lists.
    """
    if isinstance(value, dict):
        value = _as_list_of_turns(value, field)
    turns: list[Message] = []
    for index, turn in enumerate(list_of(value, field)):
        place = f"{field}[{index}]"
        if not isinstance(turn, dict):
            raise wrong(place, "an object with role and content", turn)
        if names:
            own = {name: v for name, v in turn.items() if name not in names.values()}
            turn = own | {inner: turn.get(name) for inner, name in names.items()}
        if turn.keys() == _PLAIN and turn["role"] in ROLES and isinstance(turn["content"], str):
            # As most turns are, so that a pool of them is read twice as fast.
            text = text_of(turn["content"], f"{place}.content")
            turns.append({"role": turn["role"], "content": text})
            continue
        fields = Fields(turn)
        if "role" not in fields and "from" not in fields:
            fields = Fields({str(key).lower(): inner for key, inner in turn.items()})
        turns += _both_turns(fields, place) or [_turn(fields, place)]
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


def _both_turns(fields: Fields, place: str) -> list[Message]:
    """Return the turns of a question and its answer in one object, named by who says them; else none."""
    if "role" in fields or "from" in fields:
        return []
    names = [fields.first(of_role) for of_role in _SPEAKERS]
    if names[1] is None or names[2] is None:
        return []
    return [
        {"role": role, "content": _content(fields.take(name), f"{place}.{name}")}
        for role, name in zip(("system", "user", "assistant"), names, strict=True)
        if name is not None and (role != "system" or fields.take(name))
    ]


def _turn(fields: Fields, place: str) -> Message:
    if "role" not in fields and "from" not in fields:
        found = ", ".join(fields.names) or "nothing"
        detail = f"{place}.role: expected text, found null; the turn has {found}"
        raise UnusableError(RejectReason.WRONG_TYPE, detail)
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
    if _ROLES[role] != "assistant":
        check_media(fields, f"{place}.")
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
    detail, weight = fields.take("train_detail"), fields.take("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise wrong(f"{place}.weight", "0 or 1", weight)
    flags = {name: fields.take(name) for name in _TRAIN if name in fields}
    for name, flag in flags.items():
        if name == "train" and not isinstance(flag, bool):
            raise wrong(f"{place}.train", "true or false", flag)
        if not isinstance(flag, bool) or (flag and not answers):
            fields.put_back(name)
    if not answers:
        # Only what the assistant wrote is ever trained; that more was wanted is said as left out.
        if all(flag is not False for flag in flags.values()):
            fields.put_back("train_detail")
        return None
    if any(flag is False for flag in flags.values()) or weight == 0:
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
        if type(begin) is not int or type(end) is not int:
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
