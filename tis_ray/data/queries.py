"""Queries as token ids and labels: a prompt, and the answer to it that is the label.

The prompt is cut to `max_length` tokens, and the label too, as the paper's code does. `encode_row`
encodes a row of any side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tis_ray.data.answers import Tools
from tis_ray.data.chat import (
    Encoded,
    EncodedRow,
    PromptTemplate,
    Template,
    chat_template,
    count_response_tokens,
    dropped,
    encode_dialogue,
    eos_of,
    need_right_truncation,
    plain_text,
    template_section,
    unseen_tools,
    unwritten,
)
from tis_ray.data.dialogues import prepared
from tis_ray.data.places import IGNORED, labels_at, prompt_tokens, tokens_at
from tis_ray.data.rendering import TemplateError
from tis_ray.data.rows import RejectReason, UnusableError
from tis_ray.data.tulu import ASSISTANT_HEADER, format_tulu, tulu_dialogue
from tis_ray.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tis_ray.data.rows import Message, Row, Side


def encode_query(
    prompt: str, label: str, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Encoded:
    """Encode a query as the paper's code does: templated prompt and label, each on its own.

    The label gets the eos and no special tokens. Each part is cut to `max_length` separately, so
    together they may hold twice as many tokens.
    """
    return _two_texts(prompt, label, tokenizer, max_length).encoded()


def encode_query_row(
    row: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    template: PromptTemplate = "tulu",
) -> Encoded:
    """Encode a row of the query or test side; its last assistant turn is the label.

    row: as `tis_ray.data.Row`. One with `prompt` and `label` is encoded from these texts as they
        are, whatever the template, except that `plain` takes the prompt from its messages. Turns
        after the last assistant turn are left out.
    """
    return encode_query_dialogue(row, tokenizer, max_length, template).encoded()


def encode_query_dialogue(
    row: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    template: PromptTemplate = "tulu",
) -> EncodedRow:
    """Do the same, and say what was cut and left out."""
    messages, tools = row["messages"], row.get("tools")
    if template != "plain" and row.get("prompt") is not None:
        return _two_texts(row["prompt"], row["label"], tokenizer, max_length)
    last = _last_answer(messages)
    turns = messages[: last + 1]
    left_out = ["turns after the answer"] if messages[last + 1 :] else []
    if template == "plain":
        label = turns[last]["content"].strip() if row.get("label") is None else row["label"]
        left_out += unwritten(turns, tools)
        return _two_texts(plain_text(turns[:last]), label, tokenizer, max_length, left_out)
    template = template_section(template)
    if template.name == "tulu":
        prompt, label = query_text(messages, tokenizer, template)
        left_out += unwritten(turns, tools) + dropped(turns, template)
        return _two_texts(prompt, label, tokenizer, max_length, left_out)
    need_right_truncation(tokenizer)
    chat = chat_template(tokenizer, template, tools)
    left_out += dropped(turns, template) + unseen_tools(chat, tools)
    dialogue = chat.dialogue(prepared(turns, template), tools)
    ids, places = tokens_at(tokenizer, dialogue.text, special=template.name != "chat")
    labels = labels_at(ids, places, dialogue.answers[-1].trained)
    learnt = [place for place, label in enumerate(labels) if label != IGNORED]
    first, end = (learnt[0], learnt[-1] + 1) if learnt else (len(ids), len(ids))
    prompt_ids, answer = ids[:first][:max_length], slice(first, min(end, first + max_length))
    return EncodedRow(
        prompt_ids + ids[answer],
        [IGNORED] * len(prompt_ids) + labels[answer],
        end,
        left_out + dialogue.left_out,
    )


def encode_row(
    row: Row,
    side: Side,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    template: Template,
) -> EncodedRow:
    """Encode a row as its side is: a pool row as a dialogue, others as a query.

    Raises UnusableError if the template does not take the row, or no label is left of it.
    """
    try:
        if side == "pool" and "prompt" not in row:
            turns, tools = row["messages"], row.get("tools")
            encoded = encode_dialogue(turns, tokenizer, max_length, template, tools)
        else:
            encoded = encode_query_dialogue(row, tokenizer, max_length, template)
    except TemplateError as error:
        raise UnusableError(RejectReason.TEMPLATE_REJECTED, str(error)) from None
    if not count_response_tokens(encoded.labels):
        detail = f"no response token within {max_length} tokens"
        raise UnusableError(RejectReason.LABELS_ALL_MASKED, detail)
    return encoded


def query_text(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    template: Template = "tulu",
    tools: Tools = None,
) -> tuple[str, str]:
    """Return a query's prompt and label.

    The prompt is the templated dialogue up to the point where the last assistant turn's answer
    begins, which is what a model is given to generate from; the label is that answer, stripped.
    """
    template = template_section(template)
    turns = prepared(messages[: _last_answer(messages) + 1], template)
    label = turns[-1]["content"].strip()
    if template.name == "tulu":
        if turns[-1].get("tool_calls"):
            tulu_dialogue(turns, "")  # raises: there is no form for them
        return format_tulu(turns[:-1], eos_of(tokenizer)) + ASSISTANT_HEADER, label
    dialogue = chat_template(tokenizer, template, tools).dialogue(turns, tools)
    return dialogue.text[: dialogue.answers[-1].start], label


def _last_answer(messages: Sequence[Message]) -> int:
    for index in reversed(range(len(messages))):
        if messages[index]["role"] == "assistant":
            return index
    raise InputError("messages: there is no assistant turn; a query needs one as its label")


def _two_texts(
    prompt: str,
    label: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    left_out: Sequence[str] = (),
) -> EncodedRow:
    need_right_truncation(tokenizer)
    whole = prompt_tokens(tokenizer, prompt)
    answer = prompt_tokens(tokenizer, label + eos_of(tokenizer), special=False)
    prompt_ids, label_ids = whole[:max_length], answer[:max_length]
    labels = [IGNORED] * len(prompt_ids) + label_ids
    return EncodedRow(prompt_ids + label_ids, labels, len(whole) + len(answer), [*left_out])
