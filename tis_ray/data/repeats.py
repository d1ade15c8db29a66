"""Rows that repeat an earlier row of their side: equal ones, and near ones by the overlap guard's rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from tis_ray.data.duplicates import near_duplicates, row_runs
from tis_ray.data.overlap import row_words
from tis_ray.data.rows import Row

NEAR_ROWS = 5000
"""Near ones are looked for among the first so many rows, whose words are kept in memory."""

EQUAL_ROWS = 10
"""Equal ones that are kept; the others are only counted."""


@dataclass
class Repeats:
    """Rows that repeat an earlier one, as they come.

    n, threshold: of the overlap guard. equal: how many say what an earlier one says, word for word;
    equal_rows: the first of them.
    """

    n: int
    threshold: float
    equal: int = 0
    equal_rows: list[Row] = field(default_factory=list)
    _contents: set[bytes] = field(default_factory=set)
    _first: list[Row] = field(default_factory=list)

    def add(self, row: Row, content: str) -> None:
        """Take the next row; `content` is its `content_id`."""
        digest = bytes.fromhex(content)
        if digest in self._contents:
            self.equal += 1
            if len(self.equal_rows) < EQUAL_ROWS:
                self.equal_rows.append(row)
        elif len(self._first) < NEAR_ROWS:
            self._first.append(row)
        self._contents.add(digest)

    def near(self) -> list[Row]:
        """Return the first rows that are near an earlier one, without those that are equal to it."""
        found = near_duplicates(
            [row_runs(enumerate(self._first), self.n)],
            len(self._first),
            lambda places: {place: row_words(self._first[place]) for place in places},
            n=self.n,
            threshold=self.threshold,
        )
        return [self._first[place] for place in sorted(found)]
