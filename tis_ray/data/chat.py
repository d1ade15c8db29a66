"""Rows as token ids and labels: what a model reads, and what of it is learnt.

A dialogue is rendered by a template, the text is tokenised once, and a label is -100 where the token
is not the assistant's. `tulu` is the paper's template, and reproduces the tokens and the label mask of
its code exactly (`tis_ray.data.tulu`). `chat` is the tokenizer's own chat template, or one from a file;
what the assistant wrote is found by `tis_ray.data.answers`. `chatml` is a plain one for base models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypedDict

from tis_ray.data.answers import ChatTemplate, Tools
from tis_ray.data.dialogues import SYSTEM_ROLES, prepared
from tis_ray.data.places import IGNORED, labels_at, prompt_tokens, tokens_at
from tis_ray.data.rendering import Renderer, TemplateError
from tis_ray.data.tulu import ASSISTANT_HEADER, TULU_JINJA, format_tulu, tulu_dialogue
from tis_ray.errors import InputError
from tis_ray.settings.template import TemplateConfig, TemplateName
from tis_ray.storage import place

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tis_ray.data.rows import Message

Template = TemplateConfig | TemplateName
PromptTemplate = Template | Literal["plain"]
"""How a prompt is written: in one of the templates, or (`plain`) as bare text (`plain_text`)."""

CHATML_JINJA = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The template `chatml`."""

_SAMPLE = "tis-ray-answer"


class Encoded(TypedDict):
    """Token ids and their labels: the id itself where the model is to learn it, -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class EncodedRow:
    """A row as tokens.

    tokens: how many it has, cut ones too. left_out: fields of turns that the template does not write.
    """

    input_ids: list[int]
    labels: list[int]
    tokens: int
    left_out: list[str] = field(default_factory=list)

    def encoded(self) -> Encoded:
        """Return the tokens and labels alone."""
        return {"input_ids": self.input_ids, "labels": self.labels}


@dataclass(frozen=True)
class EndMarks:
    """What ends an answer: any of some tokens, and texts that are no token by themselves."""

    tokens: list[int]
    texts: list[str]


def encode_messages(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    template: Template = "tulu",
    tools: Tools = None,
) -> Encoded:
    """Encode a dialogue, with its assistant turns as labels, in at most `max_length` tokens.

    Under `tulu` an assistant turn's labels are its content, the eos, and the newline between the
    eos and the next turn, if there is one (as in the Tulu data code that the paper uses). Under
    `chat` they are what the template writes for the turn after the generation prompt, up to its
    end-of-turn mark; or, in a template with `{% generation %}` blocks, what is in them. When a long
    prompt leaves no room for an answer, every label is -100: see `count_response_tokens`.

    Raises InputError for an empty list, or a tokenizer that lacks what the template needs (eos, chat
    template, places of tokens); TemplateError when the template does not take the dialogue.
    """
    return encode_dialogue(messages, tokenizer, max_length, template, tools).encoded()


def encode_dialogue(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    template: Template = "tulu",
    tools: Tools = None,
) -> EncodedRow:
    """Do the same, and say what was cut and left out."""
    need_right_truncation(tokenizer)
    if not messages:
        raise InputError("messages: the list is empty; give at least one turn")
    template = template_section(template)
    turns = prepared(messages, template)
    if template.name == "tulu":
        text, spans = tulu_dialogue(turns, eos_of(tokenizer))
        left_out = unwritten(turns, tools)
    else:
        chat = chat_template(tokenizer, template, tools)
        dialogue = chat.dialogue(turns, tools)
        text, left_out = dialogue.text, unseen_tools(chat, tools) + dialogue.left_out
        spans = sorted(span for answer in dialogue.answers for span in answer.trained)
    ids, places = tokens_at(tokenizer, text, special=template.name != "chat")
    labels = labels_at(ids, places, spans)
    left_out += dropped(messages, template)
    return EncodedRow(ids[:max_length], labels[:max_length], len(ids), left_out)


def encode_prompt(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, template: PromptTemplate
) -> list[int]:
    """Encode a whole dialogue, up to the point where the answer to its last turn begins."""
    if template == "plain":
        return prompt_tokens(tokenizer, plain_text(messages))
    section = template_section(template)
    turns = prepared(messages, section)
    if section.name == "tulu":
        return prompt_tokens(tokenizer, format_tulu(turns, eos_of(tokenizer)) + ASSISTANT_HEADER)
    text = chat_template(tokenizer, section).renderer.render(turns, generation=True).text
    return prompt_tokens(tokenizer, text, special=section.name != "chat")


def end_tokens(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> list[int]:
    """Return the tokens that end an answer: the eos, and the chat template's end-of-turn mark."""
    return end_marks(tokenizer, template).tokens


def end_marks(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> EndMarks:
    """Return all that ends an answer: the eos, and what the chat template writes after one."""
    ends = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    texts: set[str] = set()
    if template != "plain" and template_section(template).name != "tulu":
        question: Message = {"role": "user", "content": _SAMPLE}
        answer: Message = {"role": "assistant", "content": _SAMPLE}
        chat = chat_template(tokenizer, template_section(template))
        for turns in ([question, answer], [question, answer, question, answer]):
            dialogue = chat.dialogue(turns)
            ids, places = tokens_at(tokenizer, dialogue.text)
            for each in dialogue.answers:
                low, high = each.texts[1], each.end
                mark = dialogue.text[low:high].strip()
                inside = [
                    i
                    for i, (start, end) in zip(ids, places, strict=True)
                    if low <= start < end <= high
                ]
                own = [i for i in inside if i in tokenizer.added_tokens_decoder]
                ends.update(own[:1])
                texts.update([mark] if mark and not own else [])
    return EndMarks(sorted(ends), sorted(texts))


def plain_text(messages: Sequence[Message]) -> str:
    """Return a dialogue as bare text: its turns, stripped, one after the other on new lines.

    A blank line follows an answer, so that earlier questions and answers read as examples.
    """
    return "".join(
        turn["content"].strip() + ("\n\n" if turn["role"] == "assistant" else "\n")
        for turn in messages
    )


def count_response_tokens(labels: Sequence[int]) -> int:
    """Return how many labels enter the causal loss (the first has nothing to predict it from).

    Zero would make the mean loss 0/0: such a row must be rejected as `labels_all_masked`.
    """
    return sum(label != IGNORED for label in labels[1:])


def jinja_source(
    tokenizer: PreTrainedTokenizerBase, template: Template, tools: Tools = None
) -> str:
    """Return the template in Jinja. Raises InputError if the tokenizer has none."""
    template = template_section(template)
    if template.name == "tulu":
        return TULU_JINJA
    if template.name == "chatml":
        return _chatml(tokenizer)
    if template.file is not None:
        return _file_text(template.file)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "template: chat: the tokenizer has no chat template; use template: tulu or template: chatml"
        )
    try:
        return str(tokenizer.get_chat_template(tools=list(tools) if tools else None))
    except ValueError as error:
        raise InputError(f"template: chat: {str(error).splitlines()[0]}") from None


def template_identity(template: TemplateConfig) -> object:
    """Return what a template's settings are, for a fingerprint: with its file's text, not its name."""
    settings = template.model_dump(mode="json")
    if template.file is None:
        return settings
    return {**settings, "file": _file_text(template.file)}


def chat_template(
    tokenizer: PreTrainedTokenizerBase, template: TemplateConfig, tools: Tools = None
) -> ChatTemplate:
    """Return the template of a tokenizer, or the one that is used in its place."""
    variables = {**tokenizer.special_tokens_map, **template.kwargs}
    source = jinja_source(tokenizer, template, tools)
    return _chat_of(source, json.dumps(variables, sort_keys=True, default=str), template.date)


@lru_cache(maxsize=16)
def _chat_of(source: str, variables: str, day: date) -> ChatTemplate:
    renderer = Renderer(source, json.loads(variables), day)
    question: list[Message] = [{"role": "user", "content": _SAMPLE}]
    for form in (renderer, replace(renderer, parts=True)):
        try:
            if form.render(question).texts:
                return ChatTemplate(form)
        except TemplateError:
            continue
    return ChatTemplate(renderer)


@lru_cache(maxsize=16)
def _file_text(path: str) -> str:
    try:
        return place(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise InputError(f"data.template.file: {path} cannot be read ({error})") from None


def _chatml(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the template `chatml`; where its end mark is no token, the eos takes its place.

    A base model could not stop at a mark of several tokens in programs that know of tokens alone.
    """
    mark = "<|im_end|>"
    known = tokenizer.convert_tokens_to_ids(mark) not in (None, tokenizer.unk_token_id)
    if known or not tokenizer.eos_token:
        return CHATML_JINJA
    return CHATML_JINJA.replace(f"'{mark}'", "eos_token")


def unwritten(messages: Sequence[Message], tools: Tools = None) -> list[str]:
    """Return the fields of a dialogue that a template of roles and contents alone does not write."""
    names = [name for turn in messages for name in ("reasoning_content", "name") if turn.get(name)]
    return names + (["tools"] if tools else [])


def unseen_tools(chat: ChatTemplate, tools: Tools) -> list[str]:
    """Return `tools` if there are some that the template does not write."""
    return ["tools"] if tools and "tools" not in chat.renderer.source else []


def dropped(messages: Sequence[Message], template: TemplateConfig) -> list[str]:
    """Return the roles of turns that a template never gets to see."""
    if template.system != "drop":
        return []
    return [turn["role"] for turn in messages if turn["role"] in SYSTEM_ROLES]


def template_section(template: Template) -> TemplateConfig:
    """Return the section that a template's name is short for."""
    return template if isinstance(template, TemplateConfig) else TemplateConfig(name=template)


def eos_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of the eos token, which `tulu` needs. Raises InputError if there is none."""
    if not tokenizer.eos_token:
        raise InputError("template: tulu: the tokenizer has no eos token; set its eos_token")
    return str(tokenizer.eos_token)


def need_right_truncation(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise InputError if texts are cut at their start: they would lose the prompt before the answer."""
    if tokenizer.truncation_side != "right":
        raise InputError(
            "tokenizer: truncation_side is "
            f"{tokenizer.truncation_side!r}; set it to 'right' (tokenizer_config.json)"
        )
