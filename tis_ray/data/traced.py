# ruff: noqa: D102  the methods are those of str, and keep marks
"""Text that knows where it came from: a string whose pieces remember the message they were taken from.

A chat template is a program, and only it knows what it does with a message. So the message's texts go
in as `Traced` strings. They compare, hash and print like the strings they are, so the template does
exactly what it would do anyway; but what is cut, stripped or put together from them carries its marks
along, and the rendered text says of each of its characters which message wrote it. An operation that
is not known here gives a plain string: the mark is lost, never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, SupportsIndex


class Mark(NamedTuple):
    """Where a piece of a text came from.

    start, end: its characters; they may be equal, where an empty text was put.
    kind: `content` (a message's content), `other` (another of its texts), or one of a rendering's
        own (see `tis_ray.data.rendering`).
    turn: the message's index.
    source: of `content`, where in the content the piece begins; -1 if that is not known. Of a
        rendering's own marks, the loop.
    """

    start: int
    end: int
    kind: str
    turn: int
    source: int = -1


class Traced(str):
    """A string with marks, in the order in which they begin."""

    marks: tuple[Mark, ...]

    __slots__ = ("marks",)

    def __new__(cls, text: str, marks: Iterable[Mark] = ()) -> Traced:
        """Return `text` with these marks."""
        traced = super().__new__(cls, text)
        traced.marks = tuple(marks)
        return traced

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> str:
        return joined([self] * times.__index__())

    __rmul__ = __mul__

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        if not isinstance(key, slice):
            text = super().__getitem__(key)  # raises IndexError, or TypeError for a name
            return self._cut(key.__index__() % len(self), text)
        start, _, step = key.indices(len(self))
        text = super().__getitem__(key)
        return self._cut(start, text) if step == 1 else text

    def __iter__(self) -> Iterator[str]:
        return (self._cut(place, text) for place, text in enumerate(str.__iter__(self)))

    def strip(self, chars: str | None = None, /) -> str:
        left = super().lstrip(chars)
        return self._cut(len(self) - len(left), left.rstrip(chars))

    def lstrip(self, chars: str | None = None, /) -> str:
        text = super().lstrip(chars)
        return self._cut(len(self) - len(text), text)

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._cut(0, super().rstrip(chars))

    def removeprefix(self, prefix: str, /) -> str:
        text = super().removeprefix(prefix)
        return self._cut(len(self) - len(text), text)

    def removesuffix(self, suffix: str, /) -> str:
        return self._cut(0, super().removesuffix(suffix))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:  # type: ignore[override]
        return self._pieces(super().split(sep, maxsplit), len(sep or ""))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:  # type: ignore[override]
        return self._pieces(super().rsplit(sep, maxsplit), len(sep or ""))

    def splitlines(self, keepends: bool = False) -> list[str]:  # type: ignore[override]
        return self._pieces(super().splitlines(keepends))

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        before, found, after = self._pieces(super().partition(sep))
        return before, found, after

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        before, found, after = self._pieces(super().rpartition(sep))
        return before, found, after

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old:
            return super().replace(old, new, count)
        return joined(_between(self._pieces(super().split(old, count), len(old)), new))

    def join(self, texts: Iterable[str], /) -> str:
        return joined(_between(texts, self))

    def lower(self) -> str:
        return self._same_length(super().lower())

    def upper(self) -> str:
        return self._same_length(super().upper())

    def capitalize(self) -> str:
        return self._same_length(super().capitalize())

    def title(self) -> str:
        return self._same_length(super().title())

    def _same_length(self, text: str) -> str:
        return Traced(text, self.marks) if len(text) == len(self) else text

    def _cut(self, start: int, text: str) -> Traced:
        """Return the characters `text`, which begin at `start`, with what is left of the marks."""
        end = start + len(text)
        marks = []
        for mark in self.marks:
            low, high = max(mark.start, start), min(mark.end, end)
            # An empty piece says where a text would stand, but not one that was cut off next to it.
            if low < high or (low == high and (not text or mark.start == mark.end)):
                known = mark.kind == "content" and mark.source >= 0
                source = mark.source + low - mark.start if known else mark.source
                marks.append(Mark(low - start, high - start, mark.kind, mark.turn, source))
        return Traced(text, marks)

    def _pieces(self, texts: Iterable[str], apart: int = 0) -> list[str]:
        """Return parts of this text, in their order and with their marks, `apart` characters apart."""
        pieces: list[str] = []
        place = -apart
        for text in texts:
            place = str.index(self, text, place + apart)
            pieces.append(self._cut(place, text))
            place += len(text)
        return pieces


def joined(texts: Iterable[str]) -> str:
    """Return the texts put together; a plain string if none of them has a mark."""
    texts = list(texts)
    text = "".join([str.__str__(piece) for piece in texts])
    marks: list[Mark] = []
    place = 0
    for piece in texts:
        if type(piece) is Traced:
            marks += [
                Mark(place + start, place + end, kind, turn, source)
                for start, end, kind, turn, source in piece.marks
            ]
        place += len(piece)
    return Traced(text, marks) if marks else text


def traced(value: Any, turn: int, kind: str = "other") -> Any:
    """Return JSON data with the texts in it traced to message `turn`."""
    if isinstance(value, str):
        return Traced(value, [Mark(0, len(value), kind, turn, 0 if kind == "content" else -1)])
    if isinstance(value, dict):
        return {key: traced(item, turn, kind) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [traced(item, turn, kind) for item in value]
    return value


def origin_of(value: Any) -> tuple[str, int] | None:
    """Return kind and message of the first traced text in JSON data, None for none."""
    if type(value) is Traced:
        return next(((mark.kind, mark.turn) for mark in value.marks if mark.turn >= 0), None)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        origins = (origin_of(item) for item in value)
        return next((origin for origin in origins if origin is not None), None)
    return None


def _between(texts: Iterable[str], glue: str) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield glue
        yield text
