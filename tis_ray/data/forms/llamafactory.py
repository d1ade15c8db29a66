"""LLaMA-Factory's `sharegpt` data sets: turns of user and assistant in turn, with its names for calls.

It trains every answer or, with `mask_history`, the last alone; and it leaves out, with a warning, what is
not user and assistant in turn. Its `openai` format writes a system turn of its own into each row, so it
is not used.
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
    UnsaidError,
    plain_text,
    whole_answers,
)
from tis_ray.data.rows import Message, Row

ONLY_LAST = "mask_history"
RESULTS = "\n</tool_response>\n<tool_response>\n"
"""What it puts between the results of several calls."""
_ASKS, _ANSWERS = ("user", "observation"), ("assistant", "function_call")


def say(row: Row) -> Said:
    """Return a row as `messages` with `tools` as JSON text, plain text as `text`."""
    if (text := plain_text(row)) is not None:
        return Said({"text": text}, PLAIN_TEXT)
    whole = whole_answers(row)
    end = len(whole) - whole[::-1].index(True)  # what comes after trains nothing
    answers = [
        kept
        for turn, kept in zip(row["messages"][:end], whole, strict=False)
        if turn["role"] == "assistant"
    ]
    if not all(answers) and any(answers[:-1]):
        raise UnsaidError(
            "some of its earlier answers are trained and some are not; use --form axolotl"
        )
    needs = frozenset({ONLY_LAST}) if not all(answers) else frozenset()
    bars = frozenset({ONLY_LAST}) if all(answers) and len(answers) > 1 else frozenset()
    tools = json.dumps(row["tools"], ensure_ascii=False) if "tools" in row else ""
    return Said({"messages": _turns(row["messages"][:end]), "tools": tools}, needs=needs, bars=bars)


def _turns(messages: list[Message]) -> list[Fields]:
    turns: list[Fields] = []
    for place, turn in enumerate(messages):
        said = _turn(turn, place)
        if said["role"] == "observation" and turns and turns[-1]["role"] == "observation":
            turns[-1]["content"] += RESULTS + said["content"]
        else:
            turns.append(said)
    first = int(turns[0]["role"] == "system")
    for place, said in enumerate(turns[first:]):
        if said["role"] not in (_ASKS, _ANSWERS)[place % 2]:
            raise UnsaidError(
                "user and assistant do not take turns in it; use --form trl or axolotl"
            )
    return turns


def _turn(turn: Message, place: int) -> Fields:
    role, content = turn["role"], turn["content"]
    if "reasoning_content" in turn:
        raise UnsaidError(
            f"messages[{place}] has reasoning, which has no field here; use --form trl"
        )
    if "tool_calls" in turn:
        if content.strip():
            raise UnsaidError(f"messages[{place}] has a text beside its calls; use --form trl")
        calls = [call["function"] for call in turn["tool_calls"]]
        return {"role": "function_call", "content": json.dumps(calls, ensure_ascii=False)}
    names = {"tool": "observation", "developer": "system"}
    return {"role": names.get(role, role), "content": content}


def dataset_info(name: str, file: str, rows: Formed) -> Fields:
    """Return the entry of a file in `dataset_info.json`."""
    if rows.layout == PLAIN_TEXT:
        return {name: {"file_name": file, "columns": {"prompt": "text"}}}
    return {
        name: {
            "file_name": file,
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "tools": "tools"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "observation_tag": "observation",
                "function_tag": "function_call",
                "system_tag": "system",
            },
        }
    }


def stanza(at: Setting, rows: Formed) -> str:
    """Return the part of a config that reads a file, whose entry is in `dataset_info.json` beside it."""
    folder = at.path.rpartition("/")[0]
    only = (
        f"{ONLY_LAST}: true  # earlier answers are not trained\n" if ONLY_LAST in rows.needs else ""
    )
    own = f"; the study's is in {at.template}" if at.template is not None else ""
    return f"""\
model_name_or_path: {json.dumps(at.model)}
stage: {"pt" if rows.layout == PLAIN_TEXT else "sft"}
dataset_dir: {json.dumps(folder)}
dataset: {at.name}
cutoff_len: {at.max_length}
{only}# template: the one of your model, such as qwen3 or llama3{own}
"""


FORM = Form("llamafactory", say, stanza)
