"""A look at some rows before a study computes anything: is what would be learnt what the rows say?

Each check is made another way than the encoding itself: the text is rendered by transformers, labels
are decoded and compared with the answers, and the prompt that an answer will be generated from is
compared with the tokens that precede it in training.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from tis_ray.data.chat import (
    EndMarks,
    chat_template,
    encode_messages,
    encode_prompt,
    end_marks,
)
from tis_ray.data.dialogues import prepared
from tis_ray.data.places import IGNORED, UNCUT
from tis_ray.data.queries import encode_query_row
from tis_ray.data.rendering import TemplateError
from tis_ray.settings.template import TemplateConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tis_ray.data.rows import Message, Row


@dataclass(frozen=True)
class EncodingProblem:
    """Something that is wrong with how rows are encoded, in one line with its cure.

    wrong_labels: other tokens would be learnt than the rows say; nothing may be computed.
    """

    text: str
    wrong_labels: bool = False


def encoding_problems(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, template: TemplateConfig
) -> list[EncodingProblem]:
    """Return what is wrong with the encoding of some rows; those that are refused are left out.

    Raises InputError if nothing can be encoded with this tokenizer and template.
    """
    taken = [
        row
        for row in rows
        if "prompt" not in row
        and any(turn["role"] == "assistant" for turn in row["messages"])
        and _is_taken(row, tokenizer, template)
    ]
    marks = end_marks(tokenizer, template)
    problems = [
        _other_text(taken, tokenizer, template),
        _other_answers(taken, tokenizer, template),
        _no_end(taken, tokenizer, template, marks),
        _end_of_text_alone(taken, marks),
        _other_prompt(taken, tokenizer, template),
    ]
    return [problem for problem in problems if problem is not None]


def learns_end(
    row: Row, tokenizer: PreTrainedTokenizerBase, template: TemplateConfig, marks: EndMarks
) -> bool:
    """Return whether the end mark of a row's last answer is learnt, if anything of the answer is.

    marks: those of the template (`end_marks`). A row that says itself what is trained of it may well
    leave out the end.
    """
    last = next(turn for turn in reversed(row["messages"]) if turn["role"] == "assistant")
    if "trained" in last:
        return True
    encoded = encode_query_row(row, tokenizer, UNCUT, template)
    learnt = [label for label in encoded["labels"] if label != IGNORED][-_MARK:]
    text = tokenizer.decode(learnt)
    ended = set(learnt) & set(marks.tokens) or any(mark in text for mark in marks.texts)
    return bool(ended) or not learnt


def _is_taken(row: Row, tokenizer: PreTrainedTokenizerBase, template: TemplateConfig) -> bool:
    try:
        encode_messages(row["messages"], tokenizer, UNCUT, template, row.get("tools"))
    except TemplateError:
        return False
    return True


def _other_text(
    rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, template: TemplateConfig
) -> EncodingProblem | None:
    if template.name == "tulu":
        return None
    today = template.model_copy(update={"date": date.today()})  # transformers' clock cannot be set
    for row in rows:
        tools, turns = row.get("tools"), prepared(row["messages"], template)
        chat = chat_template(tokenizer, today, tools)
        ours = chat.renderer.render(turns, tools).text
        theirs = tokenizer.apply_chat_template(
            [_as_parts(turn) if chat.renderer.parts else dict(turn) for turn in turns],
            tools=list(tools) if tools else None,
            chat_template=chat.renderer.source,
            tokenize=False,
            **template.kwargs,
        )
        if ours != theirs:
            return EncodingProblem(
                f"template: transformers {_version()} writes row {row['id']} differently from character "
                f"{_first_difference(ours, theirs)} on; use template: tulu or chatml",
                wrong_labels=True,
            )
    return None


def _other_answers(
    rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, template: TemplateConfig
) -> EncodingProblem | None:
    for row in rows:
        encoded = encode_messages(row["messages"], tokenizer, UNCUT, template, row.get("tools"))
        learnt = _plain(tokenizer, [label for label in encoded["labels"] if label != IGNORED])
        masked = _plain(
            tokenizer,
            [
                token
                for token, label in zip(encoded["input_ids"], encoded["labels"], strict=True)
                if label == IGNORED
            ],
        )
        for index, turn in enumerate(row["messages"]):
            for text, is_wanted in _pieces(turn):
                said = _plain(tokenizer, tokenizer(text, verbose=False)["input_ids"])
                kept, other = (learnt, masked) if is_wanted else (masked, learnt)
                if len(said) >= _LONG_ENOUGH and said not in kept and said in other:
                    what = "is not learnt" if is_wanted else "is learnt"
                    return EncodingProblem(
                        f"template: messages[{index}] ({turn['role']}) of row {row['id']} {what}, by "
                        "its decoded labels; use template: tulu or chatml",
                        wrong_labels=True,
                    )
    return None


def _pieces(turn: Message) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a turn's text, and whether they are to be learnt."""
    text = turn["content"]
    if turn["role"] != "assistant":
        yield text, False
        return
    place = 0
    for begin, end in sorted(turn.get("trained", [(0, len(text))])):
        if begin > place:
            yield text[place:begin], False
        yield text[max(begin, place) : end], True
        place = max(place, end)
    yield text[place:], False


def _no_end(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    template: TemplateConfig,
    marks: EndMarks,
) -> EncodingProblem | None:
    missing = sum(not learns_end(row, tokenizer, template, marks) for row in rows)
    if not missing:
        return None
    return EncodingProblem(
        f"template: the end of an answer is not learnt in {missing} of {len(rows)} rows that were looked "
        "at: the template writes no end mark after it, so answers will run on to max_new_tokens; use a "
        "template with one (data.template: {name: chat, file: ...}), tulu or chatml"
    )


def _end_of_text_alone(rows: Sequence[Row], marks: EndMarks) -> EncodingProblem | None:
    if not rows or not marks.texts:
        return None
    return EncodingProblem(
        f"template: the end mark {marks.texts[0]!r} is no token of the tokenizer: this study stops at it, but "
        "programs that load the trained model must be told to (a stop string); use a template whose end "
        "mark is a token, tulu or chatml"
    )


def _other_prompt(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, template: TemplateConfig
) -> EncodingProblem | None:
    differing: list[str] = []
    for row in rows:
        messages = prepared(row["messages"], template)
        last = max(i for i, turn in enumerate(messages) if turn["role"] == "assistant")
        if not last or row.get("tools") or "trained" in messages[last]:
            continue
        encoded = encode_query_row(row, tokenizer, UNCUT, template)
        first = next((i for i, y in enumerate(encoded["labels"]) if y != IGNORED), None)
        if first is None:
            continue
        try:
            prompt = encode_prompt(messages[:last], tokenizer, template)
        except TemplateError:
            continue
        if prompt != encoded["input_ids"][:first]:
            differing.append(
                f"asked is {tokenizer.decode(prompt)[-_SHOWN:]!r}, learnt after "
                f"{tokenizer.decode(encoded['input_ids'][:first])[-_SHOWN:]!r}"
            )
    if not differing:
        return None
    return EncodingProblem(
        f"template: in {len(differing)} of {len(rows)} rows that were looked at the generation prompt has "
        f"other tokens than the text before the answer ({differing[0]}); a trained model will be asked in "
        "a form that it has not learnt: set data.template.kwargs (such as enable_thinking: false), or use "
        "another template"
    )


_LONG_ENOUGH = 12
_MARK = 16
_SHOWN = 40


def _plain(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the letters and digits that tokens stand for, for a comparison that spaces do not matter in."""
    text = unicodedata.normalize("NFKC", str(tokenizer.decode(ids, skip_special_tokens=True)))
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _as_parts(turn: Message) -> dict[str, Any]:
    return {**turn, "content": [{"type": "text", "text": turn["content"]}]}


def _first_difference(ours: str, theirs: str) -> int:
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


def _version() -> str:
    from transformers import __version__

    return str(__version__)
