"""The ids of a side's rows: as they were given where they can be, and always unique.

- An id that an earlier row of the same file has is refused.
- An id that a row of an earlier file has is told apart by its file: `b:0` for row 0 of `b.jsonl`.
- A row without an id is named by the hash of its content, with `-2`, `-3`, ... for repeats.

All of it follows from the order of the rows alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from tis_ray.data.rows import RejectReason, UnusableError

GIVEN_TWICE = "an earlier row of the file has this id; give each row its own, or none at all"


class Ids:
    """The ids so far; memory grows with their number.

    names: a short name of each file, by the file.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = names or {}
        self._file_of: dict[str, str] = {}
        self._taken: set[str] = set()
        self._copies: dict[str, int] = {}

    def settle(self, file: str, given: str | None, content: str) -> str:
        """Return the id of the next row of a file, by the one that it was given or what it says (`content_id`).

        Raises UnusableError if its file has it already.
        """
        if not given:
            chosen = self._unused(content)
        elif self._file_of.get(given) == file:
            raise UnusableError(RejectReason.DUPLICATE_ID, GIVEN_TWICE)
        else:
            self._file_of[given] = file
            chosen = given
            if given in self._taken:
                chosen = self._unused(f"{self._names.get(file, file)}:{given}")
        self._taken.add(chosen)
        return chosen

    def _unused(self, base: str) -> str:
        name = base
        while name in self._taken:
            self._copies[base] = self._copies.get(base, 1) + 1
            name = f"{base}-{self._copies[base]}"
        return name
