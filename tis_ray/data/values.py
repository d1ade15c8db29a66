"""The values of a record: its fields, and each as the type that a row needs, or the reason why not."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from uuid import UUID

from tis_ray.data.json_text import STRICT, RepeatedKeyError
from tis_ray.data.rows import RejectReason, UnusableError

_SCALARS = (str, bytes, numbers.Number, date, time, timedelta, Decimal, UUID)


class Fields:
    """The fields of a record, or of a turn, that are not null; what is read of them is remembered.

    turns: other names of `role` and `content` in the turns of a record.
    """

    def __init__(
        self, value: Mapping[object, object], turns: Mapping[str, str] | None = None
    ) -> None:
        self.turns = turns or {}
        self._values = {str(key): field for key, field in value.items() if field is not None}
        self._used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def take(self, name: str) -> object:
        """Return a field, None where it is absent."""
        self._used.add(name)
        return self._values.get(name)

    def put_back(self, name: str) -> None:
        """Count a field that was taken as one that nothing was read of."""
        self._used.discard(name)

    def first(self, names: Iterable[str]) -> str | None:
        """Return the first of these names that there is."""
        return next((name for name in names if name in self._values), None)

    @property
    def names(self) -> list[str]:
        """Every field, in order of their names."""
        return sorted(self._values)

    @property
    def left(self) -> list[str]:
        """The fields that nothing was read of."""
        return sorted(self._values.keys() - self._used)


def wrong(field: str, expected: str, value: object) -> UnusableError:
    """Return the refusal of a value of another type."""
    kind = "null" if value is None else type(value).__name__
    return UnusableError(RejectReason.WRONG_TYPE, f"{field}: expected {expected}, found {kind}")


def text_of(value: object, field: str) -> str:
    """Return a value that must be text that can be encoded; bytes are UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise wrong(field, "text", value) from None
    if not isinstance(value, str):
        raise wrong(field, "text", value)
    if not value.isascii():
        check_pairs(value, field)
    return value


def check_pairs(text: str, field: str) -> None:
    """Refuse half of a surrogate pair: JSON allows it when escaped, no tokenizer and no file does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        detail = f"{field}: holds half of a UTF-16 surrogate pair"
        raise UnusableError(RejectReason.WRONG_TYPE, detail) from None


def label_of(value: object, field: str) -> str:
    """Return a name or id, which may be any scalar, as text; "" where there is none.

    Bytes are read as UTF-8 or, if they are not, written as hexadecimal digits.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""  # a gap, as pandas writes it
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if not isinstance(value, _SCALARS):
        raise wrong(field, "text or a number", value)
    return text_of(str(value), field)


def list_of(value: object, field: str) -> list[object]:
    """Return a value that must be a list, or the JSON text of one."""
    if isinstance(value, str | bytes):
        value = json_of(text_of(value, field), field, "a list")
    if not isinstance(value, list | tuple):
        raise wrong(field, "a list", value)
    return list(value)


def json_of(text: str, field: str, expected: str) -> object:
    """Return what a JSON text holds; where it is none, it is text instead of what was expected."""
    try:
        value: object = STRICT.decode(text)
    except RepeatedKeyError as error:
        raise UnusableError(RejectReason.WRONG_TYPE, f"{field}: {error}") from None
    except (ValueError, RecursionError):
        raise wrong(field, expected, text) from None
    return value


def check_json(value: object, field: str) -> None:
    """Refuse a nested value that JSON, and with it a template, cannot say."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        detail = f"{field}: cannot be written as JSON ({error})"
        raise UnusableError(RejectReason.WRONG_TYPE, detail) from None
    check_pairs(text, field)
