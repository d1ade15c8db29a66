"""A chat template at work: the text it writes for a dialogue, and which message wrote each part of it.

The template is compiled as `transformers` does it (`apply_chat_template`), with three differences.
The messages' texts are `Traced`. At the start of each pass of a loop over messages, and at its end, a
mark without width is written, so that what a template writes around a message belongs to it. And
the time is fixed, because a template that writes today's date would give other tokens tomorrow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.environment import Template as Compiled
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from tis_ray.data.traced import Mark, Traced, joined, origin_of, traced
from tis_ray.errors import InputError

if TYPE_CHECKING:
    from tis_ray.data.rows import Message


MOST_PASSES = 1_000_000
"""Of loops, in one rendering: a second. A template is a program of somebody else, and may not end."""

_FAILURES = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


class TemplateError(InputError):
    """The chat template does not take this dialogue; the row can be quarantined."""


@dataclass(frozen=True)
class Rendering:
    """What a template wrote, and what is known of it."""

    text: str
    marks: tuple[Mark, ...]

    @cached_property
    def generated(self) -> list[tuple[int, int]]:
        """The characters in the template's own `{% generation %}` blocks, in their order."""
        return [(m.start, m.end) for m in self.marks if m.kind == "generation"]

    @cached_property
    def texts(self) -> list[Mark]:
        """The pieces of the messages' texts, in their order."""
        return [mark for mark in self.marks if mark.kind in ("content", "other")]

    @cached_property
    def texts_of(self) -> dict[int, list[Mark]]:
        """The pieces of each message's texts, by the message's index."""
        texts: dict[int, list[Mark]] = {}
        for mark in self.texts:
            texts.setdefault(mark.turn, []).append(mark)
        return texts

    @cached_property
    def passes(self) -> list[tuple[int, int, int]]:
        """Of each pass of a loop over messages: its first character, its end, the message's index.

        The index is -1 where the template put in a message of its own.
        """
        passes, running = [], dict[int, Mark]()
        entered = {m.source for m in self.marks if m.kind == "enter" and m.turn >= 0}
        taken = {m.source for m in self.marks if m.kind == "take" and m.turn >= 0}
        for mark in self.marks:
            if mark.kind not in ("enter", "take", "leave") or mark.source not in entered | taken:
                continue
            begun = running.get(mark.source)
            if mark.kind == "take" and (
                mark.source in entered or (begun is not None and begun.turn == mark.turn)
            ):
                continue
            if begun is not None:
                passes.append((begun.start, mark.start, begun.turn))
            running[mark.source] = mark
            if mark.kind == "leave":
                del running[mark.source]
        return passes

    @cached_property
    def passes_of(self) -> dict[int, list[tuple[int, int]]]:
        """The passes over each message, by its index: first character and end."""
        passes: dict[int, list[tuple[int, int]]] = {}
        for first, last, turn in self.passes:
            passes.setdefault(turn, []).append((first, last))
        return passes

    @cached_property
    def end_of_passes(self) -> int:
        """Where the last pass over a message ends that wrote anything."""
        return max((last for first, last, _ in self.passes if first < last), default=0)


@dataclass(frozen=True)
class Renderer:
    """A chat template with all that it reads besides the dialogue.

    source: the template. variables: the special tokens and the user's own arguments. day: what
        `strftime_now` says. parts: give contents as lists of parts, as templates of models that see
    images want it.
    """

    source: str
    variables: Mapping[str, Any]
    day: date
    parts: bool = False

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        generation: bool = False,
    ) -> Rendering:
        """Return the text of a dialogue; `generation` asks for the start of an answer at its end.

        Raises TemplateError if the template refuses it or fails on it.
        """
        compiled, marks = _compiled(self.source, self.day)
        marks.begin(len(messages))
        try:
            text = compiled.render(
                messages=[_TracedMessage(*each, self.parts) for each in enumerate(messages)],
                tools=list(tools) if tools else None,
                documents=None,
                add_generation_prompt=generation,
                **self.variables,
            )
        except InputError:
            raise
        except (JinjaError, *_FAILURES) as error:
            raise TemplateError(f"the chat template refuses the dialogue: {_line(error)}") from None
        return Rendering(str.__str__(text), text.marks if isinstance(text, Traced) else ())


class _TracedMessage(dict[str, Any]):
    """A message as a template reads it."""

    def __init__(self, turn: int, message: Message, parts: bool) -> None:
        content = traced(message["content"], turn, "content")
        if parts:
            content = [{"type": "text", "text": content}]
        fields = {"role": message["role"], "content": content}
        if (reasoning := message.get("reasoning_content")) is not None:
            # The names that templates know it by, as in transformers.
            own = traced(reasoning, turn)
            fields |= {"reasoning_content": own, "thinking": own}
        for name in ("tool_calls", "tool_call_id", "name"):
            if (value := message.get(name)) is not None:
                fields[name] = traced(value, turn)
        super().__init__(fields)
        self.turn_ = turn


class _Marks(Extension):
    """Jinja's side of the marks: the `{% generation %}` block, and the passes of loops."""

    tags = frozenset({"generation"})  # type: ignore[assignment]
    passes = most_passes = 0
    """How many passes of loops this rendering has made so far, and may make."""
    running: set[int]
    """The loops that are over messages, while they run."""

    def begin(self, turns: int) -> None:
        """Begin another rendering, of so many turns: some templates look back from each of them."""
        self.passes, self.most_passes, self.running = 0, MOST_PASSES + 10 * turns**2, set()

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_generated"), [], [], body).set_lineno(line)

    def _generated(self, caller: Callable[[], str]) -> str:
        text = caller()
        marks = text.marks if isinstance(text, Traced) else ()
        return Traced(text, (*marks, Mark(0, len(text), "generation", -1)))

    def _begin(self, kind: str, loop: int, *targets: object) -> str:
        if kind == "enter":
            self.passes += 1
            if self.passes > self.most_passes:
                raise InputError(
                    "data.template: the chat template does not end (its loops made "
                    f"{self.most_passes:,} passes for one row); use another"
                )
        turn = next((turn for turn in map(_turn_of, targets) if turn >= 0), -1)
        if turn < 0 and (kind == "take" or loop not in self.running):
            return ""
        self.running.add(loop)
        return Traced("", [Mark(0, 0, kind, turn, loop)])

    def _leave(self, loop: int) -> str:
        if loop not in self.running:
            return ""
        self.running.remove(loop)
        return Traced("", [Mark(0, 0, "leave", -1, loop)])


def _turn_of(target: object) -> int:
    """Return the index of the message that a template's variable holds, -1 if it holds none.

    A template may write a message anew, such as with more text; it is the one whose content it has.
    """
    if isinstance(target, _TracedMessage):
        return target.turn_
    if isinstance(target, dict) and "role" in target:
        origin = origin_of(target.get("content"))
        return -1 if origin is None else origin[1]
    return -1


class _Loops(NodeTransformer):
    """Adds the marks to a template's loops, and replaces Jinja's `~`, which would lose marks."""

    def __init__(self, marks: _Marks) -> None:
        self.marks = marks
        self.loops = 0
        self.around: list[int] = []

    def visit_For(self, node: nodes.For) -> list[nodes.Node]:  # noqa: N802
        self.loops += 1
        loop = self.loops
        names = [node.target, *node.target.find_all(nodes.Name)]
        targets = [nodes.Name(n.name, "load") for n in names if isinstance(n, nodes.Name)]
        self.around.append(loop)
        self.generic_visit(node)
        self.around.pop()
        node.body.insert(0, self._begin("enter", loop, targets, node.lineno))
        leave = self.marks.call_method("_leave", [nodes.Const(loop)], lineno=node.lineno)
        return [node, nodes.Output([leave], lineno=node.lineno)]

    def visit_Assign(self, node: nodes.Assign) -> list[nodes.Node]:  # noqa: N802
        """A loop over indices takes its message by `set`."""
        if not self.around or not isinstance(node.target, nodes.Name):
            return [self.generic_visit(node)]
        taken = [nodes.Name(node.target.name, "load")]
        return [self.generic_visit(node), self._begin("take", self.around[-1], taken, node.lineno)]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        pieces = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(pieces, "join", [], [], None, None, lineno=node.lineno)

    def _begin(self, kind: str, loop: int, targets: Sequence[nodes.Expr], line: int) -> nodes.Node:
        arguments = [nodes.Const(kind), nodes.Const(loop), *targets]
        call = self.marks.call_method("_begin", arguments, lineno=line)
        return nodes.Output([call], lineno=line)


@lru_cache(maxsize=16)
def _compiled(source: str, day: date) -> tuple[Compiled, _Marks]:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Marks, loopcontrols]
    )
    environment.concat = joined  # type: ignore[method-assign, assignment]
    safe = environment.filters["safe"]
    environment.filters |= {
        "tojson": _to_json,
        "join": _join,
        "string": _string,
        "safe": lambda value: value if isinstance(value, Traced) else safe(value),
    }
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda form: datetime(day.year, day.month, day.day).strftime(form),
        "dict": _Dicts(),
    }
    marks = environment.extensions[_Marks.identifier]
    assert isinstance(marks, _Marks)
    try:
        tree = _Loops(marks).visit(environment.parse(source))
        code = environment.compile(tree)
    except (JinjaError, SyntaxError, *_FAILURES) as error:
        raise InputError(
            f"data.template: the chat template is not valid: {_line(error)}; repair it, or use another"
        ) from None
    return Compiled.from_code(environment, code, environment.make_globals(None)), marks


def _raise(message: str) -> None:
    raise JinjaError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    origin = origin_of(value)
    return text if origin is None else Traced(text, [Mark(0, len(text), *origin)])


def _join(values: Any, separator: str = "", attribute: str | None = None) -> str:
    items = [value[attribute] for value in values] if attribute else list(values)
    pieces: list[str] = []
    for number, item in enumerate(items):
        pieces += [separator] * (number > 0)
        pieces.append(_string(item))
    return joined(pieces)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


class _Dicts:
    """Jinja's `dict`, without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[str, Any]:
        return dict.fromkeys(*args)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
