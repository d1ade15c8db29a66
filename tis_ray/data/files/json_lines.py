"""JSON lines: a record a line, which counts from 1, blank lines included."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator

from tis_ray.data.files.opened import opened, readable
from tis_ray.data.files.row_file import RowFile
from tis_ray.data.json_text import STRICT
from tis_ray.data.rows import Record, RejectReason, UnusableError
from tis_ray.errors import InputError
from tis_ray.storage import Place

Span = tuple[int, int]
"""The first byte of a part of a file, and the byte after its last one."""


def line_records(
    row_file: RowFile, *, first_must_be_json: bool = False, span: Span | None = None
) -> Generator[Record, None, int]:
    """Yield a record for each line that is not blank; return the number of lines.

    span: of the lines that begin between two bytes of a file that is not packed, which are counted from 1. Raises
    InputError if the file is not UTF-8 or, on demand, if its first record is not JSON.
    """
    started, path = False, row_file.path
    after = span[0] if span else 0
    with readable(path):
        number = 0
        for line in _lines(row_file, span):
            for text in _texts(_decoded(line, number + 1, path, after)):
                number += 1
                if not text.strip():
                    continue
                value, broken = _parsed(text)
                if broken is not None and first_must_be_json and not started:
                    raise InputError(
                        f"{path}: neither an array nor one object per line ({broken.detail}); "
                        "write one object per line (.jsonl)"
                    )
                started = True
                yield row_file.record(number, value, broken)
    return number


def line_texts(row_file: RowFile, wanted: Collection[int]) -> Iterator[tuple[int, str]]:
    """Yield these lines, by the numbers that their records have, as text; no other one is parsed."""
    path, left = row_file.path, len(wanted)
    with readable(path), opened(path) as file:
        number = 0
        for line in file:
            if left == 0:
                break
            if b"\r" not in line.rstrip():  # which may part several records
                number += 1
                if number not in wanted:
                    continue
                found = [(number, _decoded(line, number, path))]
            else:
                texts = _texts(_decoded(line, number + 1, path))
                found = [(number + place, text) for place, text in enumerate(texts, 1)]
                number += len(texts)
            for place, text in found:
                if place in wanted:
                    left -= 1
                    yield place, text


def lines_at(row_file: RowFile, begin: int) -> Iterator[Record]:
    """Yield the records from the first line on that begins at or after a byte; their line is 0, unknown."""
    path = row_file.path
    with readable(path), path.open("rb") as file:
        if begin > 0:
            file.seek(begin - 1)
            file.readline()
        for line in file:
            text = _decoded(line, 0 if begin else 1, path)
            if text.strip():
                yield row_file.record(0, *_parsed(text))


def _lines(row_file: RowFile, span: Span | None) -> Iterator[bytes]:
    if span is None:
        with opened(row_file.path) as file:
            yield from file
        return
    begin, end = span
    with row_file.path.open("rb") as file:
        if begin > 0:  # the line that is under way there belongs to the span before
            file.seek(begin - 1)
            begin += len(file.readline()) - 1
        for line in file:
            if begin >= end:
                return
            yield line
            begin += len(line)


def _decoded(line: bytes, number: int, path: Place, after: int = 0) -> str:
    try:
        # A byte order mark is harmless, and editors leave one at the start.
        return line.decode("utf-8-sig" if number == 1 and not after else "utf-8").strip()
    except UnicodeDecodeError:
        at = f"line {number}" + (f" after byte {after}" if after else "")
        raise InputError(f"{path}: {at} is not UTF-8; save it as UTF-8") from None


def _texts(text: str) -> list[str]:
    """Split a line at lone carriage returns, if it holds more than one value."""
    if "\r" not in text or _parsed(text)[1] is None:
        return [text]
    return text.split("\r")


def _parsed(text: str) -> tuple[object, UnusableError | None]:
    try:
        return STRICT.decode(text), None
    except (ValueError, RecursionError) as error:
        return None, UnusableError(RejectReason.BAD_JSON, str(error))
