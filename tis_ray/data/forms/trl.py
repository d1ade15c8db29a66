"""TRL's `SFTTrainer`: a prompt and its completion, both as turns, of which it trains the completion alone.

So by its own defaults it trains the answer and nothing else. A dialogue with several answers has the
turns from the first trained answer on as its completion; `assistant_only_loss` takes the user's turns
out. Turns after the last trained answer train nothing, and are left out.
"""

from __future__ import annotations

import json
from glob import escape

from tis_ray.data.forms.form import (
    PLAIN_TEXT,
    Fields,
    Form,
    Formed,
    Said,
    Setting,
    UnsaidError,
    beside,
    plain_text,
    whole_answers,
)
from tis_ray.data.rows import Message, Row

ONLY_ANSWERS = "assistant_only_loss"


def say(row: Row) -> Said:
    """Return a row as `prompt` and `completion`, a dialogue that begins with its answer as `messages`."""
    if (text := plain_text(row)) is not None:
        return Said({"text": text}, PLAIN_TEXT)
    whole = whole_answers(row)
    first, end = whole.index(True), len(whole) - whole[::-1].index(True)
    turns = row["messages"][:end]
    for place in range(first, end):
        if turns[place]["role"] == "assistant" and not whole[place]:
            raise UnsaidError(
                f"messages[{place}] is not trained, but an answer before and one after it are; "
                "use --form axolotl or messages"
            )
    needs = {ONLY_ANSWERS} if not all(whole[first:end]) else set()
    tools = {"tools": json.dumps(row["tools"], ensure_ascii=False)} if "tools" in row else {}
    said = [_turn(turn) for turn in turns]
    if first == 0:
        return Said(
            {"messages": said, **tools}, "a dialogue without a prompt", frozenset({ONLY_ANSWERS})
        )
    return Said(
        {"prompt": said[:first], "completion": said[first:], **tools}, needs=frozenset(needs)
    )


def _turn(turn: Message) -> Fields:
    names = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")
    return beside(turn, *names)


def stanza(at: Setting, rows: Formed) -> str:
    """Return a script that trains on a file."""
    only = ""
    if ONLY_ANSWERS in rows.needs:
        only = f"\n        {ONLY_ANSWERS}=True,  # some rows have turns of the user between their answers"
    if at.template is not None:
        only = (
            f"\n        chat_template_path={json.dumps(at.template)},  # the study's template{only}"
        )
    return f"""\
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

trainer = SFTTrainer(
    model={json.dumps(at.model)},
    train_dataset=load_dataset("json", data_files={json.dumps(escape(at.path))}, split="train"),
    args=SFTConfig(
        output_dir={json.dumps(at.name)},
        max_length={at.max_length},{only}
    ),
)
trainer.train()
"""


FORM = Form("trl", say, stanza, ".py")
