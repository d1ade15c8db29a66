"""JSON files: an array, read element by element, or JSON lines, which many such files hold."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator

from tis_ray.data.files.json_lines import line_records, line_texts
from tis_ray.data.files.opened import opened, readable
from tis_ray.data.files.row_file import RowFile
from tis_ray.data.json_text import PLAIN, STRICT, RepeatedKeyError
from tis_ray.data.rows import Record, RejectReason, UnusableError
from tis_ray.errors import InputError

CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_AFTER = re.compile(r"[ \t\r\n]*([,\]])")


def json_records(row_file: RowFile) -> Iterator[Record]:
    """Yield a record for each element of an array or, in any other file, for each line."""
    if not _is_array(row_file):
        return line_records(row_file, first_must_be_json=True)
    return array_records(row_file)


def json_texts(row_file: RowFile, wanted: Collection[int]) -> Iterator[tuple[int, str]]:
    """Yield these records, by their numbers, as the text that the file has."""
    if not _is_array(row_file):
        yield from line_texts(row_file, wanted)
        return
    left = len(wanted)
    for number, _, _, text in _elements(row_file, CHUNK):
        if number in wanted:
            left -= 1
            yield number, text
        if left == 0:
            return


def array_records(row_file: RowFile, chunk: int = CHUNK) -> Iterator[Record]:
    """Yield the elements of an array, of which no more is held than `chunk` or the longest needs.

    Raises InputError where the array is broken: there is no telling where its next element begins.
    """
    for number, value, broken, _ in _elements(row_file, chunk):
        yield row_file.record(number, value, broken)


def _is_array(row_file: RowFile) -> bool:
    with readable(row_file.path), opened(row_file.path) as binary:
        return binary.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _elements(
    row_file: RowFile, chunk: int
) -> Iterator[tuple[int, object, UnusableError | None, str]]:
    """Yield number, value or what is wrong with it, and text of each element of an array."""
    path = row_file.path
    with readable(path), opened(path) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8-sig")
        text = ""
        place = 0

        def more() -> bool:
            # Each read doubles what is held of an element, so a long one costs linear time.
            nonlocal text, place
            read = file.read(max(chunk, len(text) - place))
            if read:
                text, place = text[place:] + read, 0
            return bool(read)

        while not text.lstrip():
            more()
        place = text.index("[") + 1
        number = 1
        while True:
            begin = _SPACE.match(text, place).end()  # type: ignore[union-attr]  # it always matches
            if number == 1 and text[begin : begin + 1] == "]":
                place = begin + 1
                break
            try:
                value, broken, end = _element(text, begin)
                # Complete only if a comma or the end follows: 12 is also the start of 12.5.
                after = _AFTER.match(text, end)
            except (ValueError, RecursionError):
                after = None
            if after is None:
                if more():
                    continue
                raise InputError(
                    f"{path}: element {number} of the array is not valid JSON; repair the file, "
                    "or write one object per line (.jsonl)"
                )
            place = after.end()
            yield number, value, broken, text[begin:end]
            number += 1
            if after[1] == "]":
                break
        if text[place:].strip() or file.read().strip():
            raise InputError(
                f"{path}: there is text after the array; keep one array, or one object per line"
            )


def _element(text: str, begin: int) -> tuple[object, UnusableError | None, int]:
    """Return the value that begins there, or why it is none to be used, and where it ends."""
    try:
        value, end = STRICT.raw_decode(text, begin)
    except RepeatedKeyError as error:
        _, end = PLAIN.raw_decode(text, begin)
        return None, UnusableError(RejectReason.BAD_JSON, str(error)), end
    return value, None, end
