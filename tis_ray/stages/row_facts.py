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
        self._schemas: dict[str, Counter[str]] = {}
        self._left_out: Counter[str] = Counter()

    def usable(self, rows: Iterable[Row | Rejected]) -> Iterator[TableRow]:
        """Yield the usable rows, numbered, each with the hash of what it says."""
        for row in rows:
            if isinstance(row, Rejected):
                self.rejected.append(row)
                continue
            source = row["source"]
            if source not in self._schemas and len(self._schemas) >= _MOST_NAMES:
                source = _OTHERS
            by_schema = self._schemas.setdefault(source, Counter())
            by_schema[row.pop("schema", "")] += 1
            for field in row.pop("left_out", ()):
                # A name may hold what no file can: half of a surrogate pair.
                name = field.encode(errors="backslashreplace").decode()
                known = name in self._left_out or len(self._left_out) < _MOST_NAMES
                self._left_out[name if known else _OTHERS] += 1
            yield {**row, "row": self.kept}
            self.kept += 1

    def counts(self) -> RowCounts:
        """Return the counts."""
        return {
            "schemas": {source: dict(counts) for source, counts in sorted(self._schemas.items())},
            "reasons": dict(Counter(str(row.reason) for row in self.rejected).most_common()),
            "left_out": dict(self._left_out.most_common()),
        }

    def quarantined(self, side: SideName) -> list[QuarantinedRow]:
        """Return the refused rows."""
        return [
            QuarantinedRow(
                side=side,
                file=row.file,
                line=str(row.line),
                id=row.id or "",
                reason=str(row.reason),
                detail=row.detail,
            )
            for row in self.rejected
        ]

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
