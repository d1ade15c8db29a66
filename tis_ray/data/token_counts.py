"""What encoding came to over many rows: their lengths, what was cut off and left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from tis_ray.data.chat import EncodedRow

_SHORTEST = 16
"""End of the first bin of lengths; the next are 24, 32, 48, 64, 96, ..."""


class CountsJson(TypedDict):
    """`TokenCounts` as a file has it."""

    rows: int
    tokens: int
    cut_rows: int
    lost_tokens: int
    lengths: dict[str, int]
    left_out: dict[str, int]


@dataclass
class TokenCounts:
    """Counts of encoded rows.

    rows, tokens: of all that were encoded, before the cut. cut_rows, lost_tokens: by `max_length`.
    lengths: rows by the most tokens of their bin (16, 24, 32, 48, 64, 96, ...). left_out: rows by the field that the
    template does not write.
    """

    rows: int = 0
    tokens: int = 0
    cut_rows: int = 0
    lost_tokens: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, row: EncodedRow) -> None:
        """Count a row."""
        lost = row.tokens - len(row.input_ids)
        self.rows += 1
        self.tokens += row.tokens
        self.cut_rows += lost > 0
        self.lost_tokens += lost
        self.lengths[_end_of_bin(row.tokens)] += 1
        self.left_out.update(set(row.left_out))

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.cut_rows + other.cut_rows,
            self.lost_tokens + other.lost_tokens,
            self.lengths + other.lengths,
            self.left_out + other.left_out,
        )

    def to_json(self) -> CountsJson:
        """Return the counts as plain values: lengths upwards, the others by how frequent they are."""
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "cut_rows": self.cut_rows,
            "lost_tokens": self.lost_tokens,
            "lengths": {str(most): count for most, count in sorted(self.lengths.items())},
            "left_out": dict(_by_count(self.left_out)),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TokenCounts:
        """Read what `to_json` gave; other keys are left aside."""
        return cls(
            content["rows"],
            content["tokens"],
            content["cut_rows"],
            content["lost_tokens"],
            Counter({int(most): count for most, count in content["lengths"].items()}),
            Counter(content["left_out"]),
        )


def bins_between(first: int, last: int) -> list[tuple[int, int]]:
    """Return the bins from the one that ends at `first` to the one that ends at `last`: from and to."""
    bins, start = [], 1
    while start <= last:
        end = _end_of_bin(start)
        bins += [(start, end)] if end >= first else []
        start = end + 1
    return bins


def _end_of_bin(tokens: int) -> int:
    power = 1 << max(tokens - 1, 0).bit_length()
    return max(power * 3 // 4 if tokens <= power * 3 // 4 else power, _SHORTEST)


def _by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
