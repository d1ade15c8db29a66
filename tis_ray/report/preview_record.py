"""What `tis-ray preview` shows: facts on template and tokenizer, and a look at each side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tis_ray.data.pieces import Piece
from tis_ray.data.token_counts import TokenCounts
from tis_ray.stages.side_report import Refused


@dataclass(frozen=True)
class ShownRow:
    """A row as the model reads it. trained, cut: of its tokens."""

    id: str
    source: str
    file: str
    line: int
    schema: str
    pieces: list[Piece]

    @property
    def tokens(self) -> int:
        """All of them."""
        return sum(piece.tokens for piece in self.pieces)

    @property
    def trained(self) -> int:
        """Those that are learnt."""
        return sum(piece.tokens for piece in self.pieces if piece.trained and not piece.cut)

    @property
    def cut(self) -> int:
        """Those that are beyond `max_length`."""
        return sum(piece.tokens for piece in self.pieces if piece.cut)


@dataclass(frozen=True)
class SideLook:
    """A side, as far as it was read.

    where: its source. reach: how many rows were read and used, and what was not looked at. schemas: rows
    by source and schema. left_out: rows by field that is not read. repeats: lines on rows that
    repeat an earlier one.
    """

    side: str
    where: str
    reach: str
    schemas: Mapping[str, Mapping[str, int]]
    refused: list[Refused]
    left_out: Mapping[str, int]
    counts: TokenCounts
    repeats: list[str]
    rows: list[ShownRow]


@dataclass(frozen=True)
class Preview:
    """One study's data. facts: names and values. problems: a line each, with the cure."""

    name: str
    facts: list[tuple[str, str]]
    problems: list[str]
    max_length: int
    sides: list[SideLook]
