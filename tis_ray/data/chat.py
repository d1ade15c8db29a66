"""Chat templates and label masks: how dialogues and queries are encoded as token ids and labels.

There are two templates. `tulu` is the paper's, and reproduces the tokens and the label mask of its
code exactly:

    <|system|>\\n{content}\\n    <|user|>\\n{content}\\n    <|assistant|>\\n{content}{eos}\\n

with every content stripped, and then the whole text. `chat` is the tokenizer's own chat template.
Either way the text is tokenised once, and a label is -100 where the token is not the assistant's. A
span of characters becomes a span of tokens by counting the tokens of the text before each of its
ends, cut at `max_length` like the text itself. That takes one tokenizer call for each turn's end, and
stops at the first one beyond `max_length`. (Adding up the counts of the pieces would save calls but
is not exact: tokens may join across a boundary, and tokenizers may treat the start of a text
differently.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from jinja2 import TemplateError as JinjaError

from tis_ray.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tis_ray.data.rows import Message

Template = Literal["tulu", "chat"]
PromptTemplate = Literal["tulu", "chat", "plain"]
"""How a prompt is written: in one of the templates, or (`plain`) as bare text (`plain_text`)."""

IGNORED = -100
ASSISTANT_HEADER = "<|assistant|>\n"

TULU_JINJA = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'].strip() }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""The Tulu template as a tokenizer's chat template, for programs that accept only those."""

_Span = tuple[int, int]
_SENTINEL = "tis-ray-answer"


class Encoded(TypedDict):
    """Token ids and their labels: the id itself where the model is to learn it, -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]


class TemplateError(InputError):
    """The tokenizer's chat template rejects this dialogue; the row can be quarantined."""


def encode_messages(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    template: Template = "tulu",
) -> Encoded:
    """Encode a dialogue, with its assistant turns as labels, in at most `max_length` tokens.

    Under `tulu` an assistant turn's labels are its content, the eos, and the newline between the
    eos and the next turn, if there is one (as in the Tulu data code that the paper uses). Under
    `chat` they are what the template writes for the turn after the generation prompt, up to its
    end-of-turn mark. When a long prompt leaves no room for an answer, every label is -100: see
    `count_response_tokens`.

    Raises InputError for an unknown role, an empty list, or a tokenizer that lacks what the template
    needs (eos, chat template); TemplateError when the chat template rejects the dialogue.
    """
    _need_right_truncation(tokenizer)
    if not messages:
        raise InputError("messages: the list is empty; give at least one turn")
    if template == "tulu":
        untrimmed, spans = _tulu_text(messages, _eos(tokenizer))
        text = untrimmed.strip()
        # Prefixes end in newlines that the trimmed text may have lost: count on the untrimmed one.
        special = True
    else:
        untrimmed = text = _render(tokenizer, messages)
        spans = _gaps(_chat_answers(tokenizer, messages, text), len(text))
        special = False  # the template writes the special tokens itself
    ids = _ids(tokenizer, text, max_length, special)

    def tokens_before(end: int) -> int:
        return len(_ids(tokenizer, untrimmed[:end], max_length, special)) if end else 0

    return {"input_ids": ids, "labels": _masked(ids, spans, tokens_before, max_length)}


def encode_query(
    prompt: str, label: str, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Encoded:
    """Encode a query as the paper's code does: templated prompt and label, each on its own.

    The label gets the eos and no special tokens. Each part is cut to `max_length` separately, so
    together they may hold twice as many tokens.
    """
    _need_right_truncation(tokenizer)
    prompt_ids = _ids(tokenizer, prompt, max_length, special=True)
    label_ids = _ids(tokenizer, label + _eos(tokenizer), max_length, special=False)
    return _joined(prompt_ids, label_ids)


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
    if template == "plain":
        turns, last = row["messages"], _last_answer(row["messages"])
        label = turns[last]["content"].strip() if row.get("label") is None else row["label"]
        return encode_query(plain_text(turns[:last]), label, tokenizer, max_length)
    if row.get("prompt") is not None:
        return encode_query(row["prompt"], row["label"], tokenizer, max_length)
    if template == "tulu":
        prompt, label = query_text(row["messages"], tokenizer, template)
        return encode_query(prompt, label, tokenizer, max_length)
    _need_right_truncation(tokenizer)
    prompt, label = _chat_query(row["messages"], tokenizer)
    return _joined(
        _ids(tokenizer, prompt, max_length, special=False),
        _ids(tokenizer, label, max_length, special=False),
    )


def encode_prompt(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, template: PromptTemplate
) -> list[int]:
    """Encode a whole dialogue, up to the point where the answer to its last turn begins."""
    if template == "chat":
        text = _render(tokenizer, messages, generation=True)
    elif template == "tulu":
        text = format_tulu(messages, _eos(tokenizer)) + ASSISTANT_HEADER
    else:
        text = plain_text(messages)
    ids: list[int] = tokenizer(text, add_special_tokens=template != "chat")["input_ids"]
    return ids


def end_tokens(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> list[int]:
    """Return the tokens that end an answer: the eos, and the chat template's end-of-turn mark."""
    ends = {int(tokenizer.eos_token_id)}
    if template == "chat":
        # Templates often end a turn with a token of their own, which is not the tokenizer's eos.
        sample: list[Message] = [
            {"role": "user", "content": _SENTINEL},
            {"role": "assistant", "content": _SENTINEL},
        ]
        mark = _render(tokenizer, sample).rpartition(_SENTINEL)[2].strip()
        ids = tokenizer(mark, add_special_tokens=False)["input_ids"]
        ends |= {token for token in ids[:1] if token in tokenizer.all_special_ids}
    return sorted(ends)


def plain_text(messages: Sequence[Message]) -> str:
    """Return a dialogue as bare text: its turns, stripped, one after the other on new lines.

    A blank line follows an answer, so that earlier questions and answers read as examples.
    """
    return "".join(
        turn["content"].strip() + ("\n\n" if turn["role"] == "assistant" else "\n")
        for turn in messages
    )


def query_text(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, template: Template = "tulu"
) -> tuple[str, str]:
    """Return a query's prompt and label.

    The prompt is the templated dialogue up to the point where the last assistant turn's answer
    begins, which is what a model is given to generate from; the label is that answer, stripped.
    """
    last = _last_answer(messages)
    label = messages[last]["content"].strip()
    if template == "tulu":
        return format_tulu(messages[:last], _eos(tokenizer)) + ASSISTANT_HEADER, label
    return _chat_query(messages, tokenizer)[0], label


def format_tulu(messages: Sequence[Message], eos: str) -> str:
    """Return the dialogue in the Tulu template, including the last newline."""
    return _tulu_text(messages, eos)[0]


def count_response_tokens(labels: Sequence[int]) -> int:
    """Return how many labels enter the causal loss (the first has nothing to predict it from).

    Zero would make the mean loss 0/0: such a row must be rejected as `labels_all_masked`.
    """
    return sum(label != IGNORED for label in labels[1:])


def _tulu_text(messages: Sequence[Message], eos: str) -> tuple[str, list[_Span]]:
    """Return the text and its spans that are no labels; these include the answer's header."""
    text = ""
    spans = []
    for index, turn in enumerate(messages):
        role, start = turn["role"], len(text)
        if role not in ("system", "user", "assistant"):
            raise InputError(
                f"messages[{index}]: role {role!r} is not one of system, user, assistant"
            )
        ending = eos if role == "assistant" else ""
        text += f"<|{role}|>\n{turn['content'].strip()}{ending}\n"
        if role != "assistant":
            answered = index + 1 < len(messages) and messages[index + 1]["role"] == "assistant"
            spans.append((start, len(text) + len(ASSISTANT_HEADER) * answered))
    return text, spans


def _masked(
    ids: list[int], spans: Sequence[_Span], tokens_before: Callable[[int], int], max_length: int
) -> list[int]:
    labels = list(ids)
    known: dict[int, int] = {}  # a turn may begin where the one before it ends
    for start, end in spans:
        first = known.get(start)
        if first is None:
            first = tokens_before(start)
        if first >= max_length:
            break
        last = known[end] = tokens_before(end)
        labels[first:last] = [IGNORED] * len(labels[first:last])
        if last >= max_length:
            break
    return labels


def _chat_answers(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str
) -> list[_Span]:
    """Return the spans of `text` that the assistant turns fill, found by rendering prefixes.

    Needs no generation tags in the template. Templates may write a turn differently once others
    follow (Qwen3 drops the reasoning of earlier turns). Then the rendering up to a turn's end is not
    a prefix of `text`, and the turn ends at the first end-of-turn mark after its start.
    """
    spans = []
    for index, turn in enumerate(messages):
        if turn["role"] != "assistant":
            continue
        head = _render(tokenizer, messages[:index], generation=True)
        # The generation prompt may open a reasoning block that `text` does not have here.
        start = len(os.path.commonprefix([head, text]))  # noqa: RUF071  characters are meant
        if start < len(_render(tokenizer, messages[:index]) if index else ""):
            raise TemplateError(_rewritten(index))
        through = _render(tokenizer, messages[: index + 1]).rstrip()
        if text.startswith(through):
            end = len(through)
        else:
            sample: list[Message] = [*messages[:index], {"role": "assistant", "content": _SENTINEL}]
            mark = _render(tokenizer, sample).rpartition(_SENTINEL)[2].rstrip()
            place = text.find(mark, start) if mark else -1
            if place < 0:
                raise TemplateError(_rewritten(index))
            end = place + len(mark)
        spans.append((start, max(start, end)))
    return spans


def _chat_query(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return the rendered text before the last answer, and that answer with its end-of-turn mark."""
    dialogue = messages[: _last_answer(messages) + 1]
    text = _render(tokenizer, dialogue)
    start, end = _chat_answers(tokenizer, dialogue, text)[-1]
    return text[:start], text[start:end]


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], generation: bool = False
) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError("template: chat: the tokenizer has no chat template; use template: tulu")
    try:
        rendered: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation
        )
    except JinjaError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TemplateError(
            f"template: chat: the chat template refuses the dialogue ({reason}); use template: tulu"
        ) from None
    return rendered


def _rewritten(index: int) -> str:
    return (
        f"template: chat: the chat template rewrites turns, so that messages[{index}] cannot be found "
        "in its text; use template: tulu"
    )


def _gaps(spans: Sequence[_Span], length: int) -> list[_Span]:
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), length]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def _last_answer(messages: Sequence[Message]) -> int:
    for index in reversed(range(len(messages))):
        if messages[index]["role"] == "assistant":
            return index
    raise InputError("messages: there is no assistant turn; a query needs one as its label")


def _joined(prompt_ids: list[int], label_ids: list[int]) -> Encoded:
    return {
        "input_ids": prompt_ids + label_ids,
        "labels": [IGNORED] * len(prompt_ids) + label_ids,
    }


def _ids(
    tokenizer: PreTrainedTokenizerBase, text: str, max_length: int, special: bool
) -> list[int]:
    encoding = tokenizer(text, truncation=True, max_length=max_length, add_special_tokens=special)
    return list(encoding["input_ids"])


def _eos(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.eos_token:
        raise InputError("template: tulu: the tokenizer has no eos token; set its eos_token")
    return str(tokenizer.eos_token)


def _need_right_truncation(tokenizer: PreTrainedTokenizerBase) -> None:
    # Cut at its start, a text would no longer line up with the counts of its prefixes.
    if tokenizer.truncation_side != "right":
        raise InputError(
            "tokenizer: truncation_side is "
            f"{tokenizer.truncation_side!r}; set it to 'right' (tokenizer_config.json)"
        )
