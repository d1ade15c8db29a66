"""What reading a side came to: its rows by source and schema, what was refused, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypedDict

import pyarrow as pa

from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.data import Rejected, Row
from tis_ray.store import TableRow
from tis_ray.store.sides import QUARANTINE, SideName

_MOST_NAMES = 1000
"""Fields, and sources, that are counted by name; where rows make up names, the others count together."""
_OTHERS = "(others)"
_SHOWN = 3


class RowCounts(TypedDict):
    """Usable rows by source and schema, refused rows by reason, and rows by the field that had no part
    in what they say."""

    schemas: dict[str, dict[str, int]]
    reasons: dict[str, int]
    left_out: dict[str, int]


class RowFacts:
    """Counts of the rows that pass through `usable`."""

    def __init__(self) -> None:
        self.kept = 0
        self.rejected: list[Rejected] = []
        self.reasons: Counter[str] = Counter()
        self._schemas: dict[str, Counter[str]] = {}
        self._left_out: Counter[str] = Counter()

    def usable(self, rows: Iterable[Row | Rejected]) -> Iterator[TableRow]:
        """Yield the usable rows, numbered, each with the hash of what it says."""
        for row in rows:
            if isinstance(row, Rejected):
                self.rejected.append(row)
                self.reasons[str(row.reason)] += 1
                continue
            self.count(row["source"], row.pop("schema", ""), 1)
            for field in row.pop("left_out", ()):
                self.count_left_out(printable(field), 1)
            yield {**row, "row": self.kept}
            self.kept += 1

    def count(self, source: str, schema: str, rows: int) -> None:
        """Count usable rows; sources come in the order in which they first appear."""
        if source not in self._schemas and len(self._schemas) >= _MOST_NAMES:
            source = _OTHERS
        self._schemas.setdefault(source, Counter())[schema] += rows

    def count_left_out(self, field: str, rows: int) -> None:
        """Count usable rows by a field that had no part in them, in the same order."""
        known = field in self._left_out or len(self._left_out) < _MOST_NAMES
        self._left_out[field if known else _OTHERS] += rows

    def counts(self) -> RowCounts:
        """Return the counts."""
        return {
            "schemas": {source: dict(counts) for source, counts in sorted(self._schemas.items())},
            "reasons": dict(self.reasons.most_common()),
            "left_out": dict(self._left_out.most_common()),
        }

    def quarantined(self, side: SideName) -> list[QuarantinedRow]:
        """Return the refused rows."""
        return quarantined(side, self.rejected)

    def quarantine(self, side: SideName) -> pa.Table:
        """Return the refused rows as a table of the schema QUARANTINE."""
        return pa.Table.from_pylist(self.quarantined(side), QUARANTINE)

    def nothing_usable(self, where: str) -> str:
        """Return a line for a side without a usable row: the reasons, the first places, the cure."""
        if not self.rejected:
            return f"{where} holds no rows; check the path"
        parts = []
        for reason, count in Counter(row.reason for row in self.rejected).most_common():
            rows = [row for row in self.rejected if row.reason == reason][:_SHOWN]
            places = ", ".join(f"{row.file} line {row.line}" for row in rows)
            parts.append(f"{count} {reason} ({places}: {rows[0].detail})")
        return (
            f"{where} has no usable row: {'; '.join(parts)}; repair the rows, or name their fields with "
            "`columns:`"
        )


def quarantined(side: SideName, rejected: Iterable[Rejected]) -> list[QuarantinedRow]:
    """Return refused rows as rows of the quarantine."""
    return [
        QuarantinedRow(
            side=side,
            file=row.file,
            line=str(row.line),
            id=row.id or "",
            reason=str(row.reason),
            detail=row.detail,
        )
        for row in rejected
    ]


def printable(name: str) -> str:
    """Return the name of a field, which may hold what no file can: half of a surrogate pair."""
    return name.encode(errors="backslashreplace").decode()
