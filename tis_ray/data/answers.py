"""What the assistant wrote in a rendered dialogue, as spans of characters.

A template with `{% generation %}` blocks says it itself. For any other the rendering does
(`tis_ray.data.rendering`): it knows which characters came from an answer, and in which pass of the
template's loop they were written. What stands before them in that pass is the header, which the
generation prompt holds too; what follows is the answer's end mark. White space after the mark is
not part of it: no model gets to write it, as generation has ended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tis_ray.data.rendering import Renderer, Rendering, TemplateError
from tis_ray.data.traced import Mark

if TYPE_CHECKING:
    from tis_ray.data.rows import Message

Span = tuple[int, int]
"""First character and end."""

Tools = Sequence[Mapping[str, Any]] | None

_PROBE = "tis-ray-answer"
_TURNS: tuple[Message, ...] = (
    {"role": "user", "content": _PROBE},
    {"role": "assistant", "content": _PROBE},
)


@dataclass(frozen=True)
class Answer:
    """One turn of the assistant in a rendering.

    header: where the template begins to write the turn.
    start, end: with whatever the template writes for it after the header, such as reasoning or
        calls of tools, and with its end mark.
    texts: its own texts, in between.
    trained: what of it is to be learnt.
    """

    turn: int
    header: int
    start: int
    end: int
    texts: Span
    trained: tuple[Span, ...]


@dataclass(frozen=True)
class Dialogue:
    """A rendered dialogue.

    left_out: fields of turns that the template does not write, such as the reasoning of earlier ones.
    """

    text: str
    answers: list[Answer]
    left_out: list[str]


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template whose answers are found."""

    renderer: Renderer

    def dialogue(self, messages: Sequence[Message], tools: Tools = None) -> Dialogue:
        """Return the rendered dialogue with its answers.

        Raises TemplateError if the template refuses the dialogue, leaves out what one of its turns
        says, or writes an answer in a way that it cannot be found again.
        """
        rendering = self.renderer.render(messages, tools)
        left_out = [
            field
            for turn, message in enumerate(messages)
            for field in _unwritten(rendering, turn, message)
        ]
        headers: dict[str, int] = {}
        answers = [
            self._answer(rendering, turn, messages, tools, headers)
            for turn, message in enumerate(messages)
            if message["role"] == "assistant"
        ]
        if rendering.generated:
            answers = _as_marked(rendering, answers)
        else:
            answers = _with_end_marks(rendering, answers, self.end_mark)
        answers = [_as_wanted(rendering, each, messages[each.turn]) for each in answers]
        return Dialogue(rendering.text, answers, left_out)

    @cached_property
    def generation_prompt(self) -> str:
        """What the template writes to ask for an answer; empty if it writes nothing."""
        try:
            asking, silent = (self.renderer.render(_TURNS[:1], generation=g) for g in (True, False))
            if asking.text == silent.text:
                return self._unasked_prompt(asking)
        except TemplateError:
            return ""
        if after := asking.text[max((end for _, end, _ in asking.passes), default=0) :]:
            return after
        asked, rest = (each.text[_end_of_texts(each) :] for each in (asking, silent))
        return asked.removeprefix(rest) if asked.startswith(rest) else ""

    def _unasked_prompt(self, asking: Rendering) -> str:
        """Return what a template writes after every dialogue, if it is what stands before answers."""
        after = asking.text[max((end for _, end, _ in asking.passes), default=0) :]
        answered = self.renderer.render(_TURNS)
        begin = min((m.start for m in answered.texts_of.get(1, ())), default=0)
        return after if answered.text[:begin].rstrip().endswith(after.strip()) else ""

    @cached_property
    def end_mark(self) -> str:
        """What the template writes after an answer at a dialogue's end; empty if it is not known."""
        try:
            rendering = self.renderer.render(_TURNS)
        except TemplateError:
            return ""
        _, last = _pass_of(rendering, 1) or (0, len(rendering.text))
        if last >= rendering.end_of_passes:
            last = len(rendering.text)
        rest = rendering.text[_end_of_texts(rendering) : last].strip()
        return rest.removesuffix(self.generation_prompt.strip()).strip()

    def _answer(
        self,
        rendering: Rendering,
        turn: int,
        messages: Sequence[Message],
        tools: Tools,
        headers: dict[str, int],
    ) -> Answer:
        """Return an answer; `headers` holds what `_header` has found for others of the dialogue."""
        text = rendering.text
        first, last = _pass_of(rendering, turn) or self._around(rendering, turn)
        own, others = _texts_between(rendering, turn, first, last)
        begin, end = (own[0].start, max(m.end for m in own)) if own else (first, first)
        if any(mark.end > begin for mark in others):
            raise TemplateError(_lost(turn))
        first = max([first, *(mark.end for mark in others)])
        written = text[first : begin if own else last]
        if written not in headers:
            headers[written] = self._header(written, turn, messages, tools)
        start = first + headers[written]
        if not own:
            begin = end = start
        start, stop = min(start, begin), end + len(text[end:last].rstrip())
        if turn == len(messages) - 1 and last >= rendering.end_of_passes:
            stop = self._end_of_dialogue(rendering, end, stop, last)
        return Answer(turn, first, start, stop, (begin, end), ((start, stop),))

    def _around(self, rendering: Rendering, turn: int) -> Span:
        """Return the characters around a turn that no pass of a loop writes, up to its end mark."""
        own = rendering.texts_of.get(turn)
        if not own or not self.end_mark:
            raise TemplateError(_lost(turn))
        begin, end = own[0].start, max(mark.end for mark in own)
        first = max(
            (m.end for m in rendering.texts if m.turn != turn and m.end <= begin), default=0
        )
        blanks = len(rendering.text[end:]) - len(rendering.text[end:].lstrip())
        last = end + blanks + len(self.end_mark)
        if rendering.text[end + blanks : last] != self.end_mark:
            raise TemplateError(_lost(turn))
        return first, last

    def _end_of_dialogue(self, rendering: Rendering, end: int, stop: int, last: int) -> int:
        """Return where the last answer of a dialogue ends, given where its pass does.

        What a template writes after its last turn ends that turn, unless it is the header of another.
        """
        rest = rendering.text[last:].rstrip()
        if any(mark.end > last for mark in rendering.texts[-1:]) and rest:
            raise TemplateError(_lost(rendering.texts[-1].turn))
        header = self.generation_prompt.startswith(rest.strip()) and stop > end
        return stop if header or not rest else last + len(rest)

    def _header(self, written: str, turn: int, messages: Sequence[Message], tools: Tools) -> int:
        """Return how many of the characters before an answer's texts are not the assistant's.

        They are all that the generation prompt holds. Where it does not hold them, because it opens
        a reasoning block that is not here or the answer begins with a call of a tool, they are what
        stands before an answer of one word. Without a generation prompt, an answer begins where the
        turn before it ends, blanks included.
        """
        prompt = self.generation_prompt
        asked = prompt.strip()
        if asked and (place := written.find(asked)) >= 0:
            end = place + len(asked)
            blank = prompt[len(prompt.rstrip()) :]
            return end + (len(blank) if written.startswith(blank, end) else 0)
        if asked and asked.startswith(written.strip()):
            return len(written)
        others = [_TURNS[1] if place == turn else message for place, message in enumerate(messages)]
        probe = self.renderer.render(others, tools)
        first, last = _pass_of(probe, turn) or self._around(probe, turn)
        own, _ = _texts_between(probe, turn, first, last)
        header = probe.text[first : own[0].start if own else first]
        if not asked and not header.strip():
            return 0
        return len(header) if written.startswith(header) else len(written)


def _unwritten(rendering: Rendering, turn: int, message: Message) -> list[str]:
    """Return the fields of a turn that the template left out; TemplateError if it needs them."""
    kinds = {mark.kind for mark in rendering.texts_of.get(turn, ()) if mark.start < mark.end}
    if message["content"].strip() and "content" not in kinds:
        raise TemplateError(
            f"the chat template leaves out messages[{turn}] ({message['role']}), or rewrites it beyond "
            "recognition; use a template that has it"
        )
    if "other" in kinds:
        return []
    if message.get("tool_calls"):
        raise TemplateError(
            f"the chat template leaves out the tool calls of messages[{turn}]; use a template that "
            "has them"
        )
    return [name for name in ("reasoning_content", "name") if message.get(name)]


def _pass_of(rendering: Rendering, turn: int) -> Span | None:
    """Return the characters of the pass that writes a turn; None if it is not written in one."""
    texts = rendering.texts_of.get(turn, ())
    passes = rendering.passes_of.get(turn, ())
    holding = [
        (first, last)
        for first, last in passes
        if any(first <= mark.start and mark.end <= last for mark in texts)
    ]
    if not texts:
        holding = [(first, last) for first, last in passes if first < last]
    if not holding:
        return None
    return max(holding, key=lambda span: span[1] - span[0])


def _texts_between(
    rendering: Rendering, turn: int, first: int, last: int
) -> tuple[list[Mark], list[Mark]]:
    """Return the pieces of a turn's texts between two places, and those of other turns."""
    low = bisect_left(rendering.texts, first, key=lambda mark: mark.start)
    high = bisect_left(rendering.texts, last + 1, key=lambda mark: mark.start)
    inside = rendering.texts[low:high]
    own = [mark for mark in inside if mark.turn == turn and mark.end <= last]
    others = [m for m in inside if m.turn != turn and m.start < min(m.end, last)]
    return own, others


def _end_of_texts(rendering: Rendering) -> int:
    return max((mark.end for mark in rendering.texts), default=0)


def _with_end_marks(
    rendering: Rendering, answers: Sequence[Answer], known: str = ""
) -> list[Answer]:
    """Let answers end at their end mark, wherever the template writes it.

    Some write it when they come to the next turn: then it is there, after the answer's own pass. Some
    write the next turn's header at once: then the pass holds more than the mark.

    known: the mark, where it is known; else it is what the last answer ends in.
    """
    text = rendering.text
    final = known or (text[answers[-1].texts[1] : answers[-1].end].strip() if answers else "")
    ended = []
    for answer in answers:
        end = answer.texts[1]
        if answer.end > end:
            end += len(text[end : answer.end]) - len(text[end : answer.end].lstrip())
        if final and text.startswith(final, end):
            stop = end + len(final)
            answer = replace(answer, end=stop, trained=((answer.start, stop),))
        ended.append(answer)
    return ended


def _as_marked(rendering: Rendering, answers: Sequence[Answer]) -> list[Answer]:
    """Return the answers as the template's own blocks have them, which must hold the texts found."""
    marked: list[Answer] = []
    blocks = [block for block in rendering.generated if block[0] < block[1]]
    ends = [answer.header for answer in answers[1:]] + [len(rendering.text)]
    for answer, limit in zip(answers, ends, strict=True):
        own = []
        while blocks and blocks[0][0] < limit:
            own.append(blocks.pop(0))
        low, high = answer.texts
        if not own or own[0][0] > low or max(end for _, end in own) < high:
            raise TemplateError(
                f"the chat template's generation blocks leave out a part of messages[{answer.turn}]"
            )
        marked.append(replace(answer, start=own[0][0], end=own[-1][1], trained=tuple(own)))
    return marked


def _as_wanted(rendering: Rendering, answer: Answer, message: Message) -> Answer:
    """Return the answer with those of its spans that its row wants to be trained."""
    wanted = message.get("trained")
    if wanted is None:
        return answer
    low, high = answer.texts
    spans = []
    for begin, end in wanted:
        for mark in rendering.texts_of.get(answer.turn, ()):
            if mark.kind != "content" or mark.source < 0 or mark.start < low or mark.end > high:
                continue
            shift = mark.start - mark.source
            start, stop = max(begin + shift, mark.start), min(end + shift, mark.end)
            if start < stop:
                spans.append(
                    (answer.start if start == low else start, answer.end if stop == high else stop)
                )
    return replace(answer, trained=tuple(sorted(spans)))


def _lost(turn: int) -> str:
    return (
        f"the chat template writes messages[{turn}] in a way that it cannot be found in the text; "
        "use template: tulu"
    )
