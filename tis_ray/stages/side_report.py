"""A few lines on what became of a side's rows: refused, cut, left out; where, and what would help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tis_ray.analysis.recorded import QuarantinedRow
from tis_ray.data.rows import RejectReason
from tis_ray.data.shown_text import one_line
from tis_ray.data.token_counts import TokenCounts
from tis_ray.store.sides import Side

PLACES = 3
"""Places named of each kind of refused rows."""
DETAIL = 180
"""Characters of what was found."""
FIELDS = 6
"""Fields named of those that were left out."""

_NO_SUCH_ROLE = "[Ss]ystem|leaves out .*developer"
_CURES: tuple[tuple[RejectReason, str, str], ...] = (
    (RejectReason.TEMPLATE_REJECTED, "alternat", "data.template: {name: chat, merge: true}"),
    (
        RejectReason.TEMPLATE_REJECTED,
        r"\btools?\b",
        "a template that has tools: data.template: {name: chat, file: ...}",
    ),
    (
        RejectReason.TEMPLATE_REJECTED,
        _NO_SUCH_ROLE,
        "data.template: {name: chat, system: prepend}, or drop",
    ),
    (RejectReason.TEMPLATE_REJECTED, "", "data.template: tulu, or a template file"),
    (RejectReason.NO_MESSAGES, "found|prompt", "name the fields with `columns:` of the source"),
    (RejectReason.LABELS_ALL_MASKED, "", "a greater data.max_length, or shorter prompts"),
    (RejectReason.BAD_JSON, "", "repair these lines"),
    (RejectReason.OVERLAPS_TEST, "", "overlap: {test: keep}, if they are to stay"),
    (RejectReason.REPEATS_POOL_ROW, "", "overlap: {pool: keep}, if they are to stay"),
    (RejectReason.OVERLAPS_QUERY, "", "overlap: {query: keep}, if they are to stay"),
)
"""Reason, what its detail says, and the cure; the first that fits."""


@dataclass(frozen=True)
class Refused:
    """Rows that were refused for one reason and have one cure, if any is known.

    places: file and line of the first. detail: what was found in the first.
    """

    reason: str
    cure: str
    detail: str
    count: int = 0
    places: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return it all in a line."""
        where = "; ".join(self.places)
        rest = ", ..." if self.count > PLACES else ""
        cure = f" → {self.cure}" if self.cure else ""
        return f"{self.count:,} {self.reason} ({where}{rest}): {self.detail}{cure}"


def cure(reason: str, detail: str) -> str:
    """Return what would make such rows usable; empty where nobody can know."""
    fits = (c for known, words, c in _CURES if known == reason and re.search(words, detail))
    return next(fits, "")


def refused(rows: Iterable[QuarantinedRow]) -> list[Refused]:
    """Return refused rows by reason, cure and kind of detail, the most frequent first."""
    counts: dict[tuple[str, str, str], int] = {}
    first: dict[tuple[str, str, str], list[QuarantinedRow]] = {}
    for row in rows:
        kind = row["reason"], cure(row["reason"], row["detail"]), _kind(row)
        counts[kind] = counts.get(kind, 0) + 1
        shown = first.setdefault(kind, [])
        if len(shown) < PLACES:
            shown.append(row)
    return [
        Refused(
            reason=kind[0],
            cure=kind[1],
            detail=_short(one_line(first[kind][0]["detail"], 1000)),
            count=count,
            places=_places(first[kind]),
        )
        for kind, count in sorted(counts.items(), key=lambda item: -item[1])
    ]


def _kind(row: QuarantinedRow) -> str:
    """Return what tells the details of rows apart that have one reason and may have different faults.

    It is the beginning, up to what is of one row alone: a number, or what stands in quotes.
    """
    if row["reason"] == RejectReason.BAD_JSON:  # no JSON, or a key that is there twice
        return "twice" if "twice" in row["detail"] else ""
    return (
        re.split(r"[\d'\"`]", row["detail"])[0] if row["reason"] == RejectReason.WRONG_TYPE else ""
    )


def _short(detail: str) -> str:
    """Return a detail without its middle: it begins with what was expected, and ends with what was found."""
    if len(detail) <= DETAIL:
        return detail
    begin, end = detail[: DETAIL // 3], detail[-DETAIL // 2 :]
    return f"{begin.rpartition(' ')[0] or begin} ... {end.partition(' ')[2] or end}"


def _places(rows: Iterable[QuarantinedRow]) -> list[str]:
    """Return "a.jsonl line 3, 17", a text for each file."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        lines.setdefault(row["file"], []).append(row["line"])
    return [f"{one_line(file, 80)} line {', '.join(at)}" for file, at in lines.items()]


def cut_line(counts: TokenCounts, max_length: int) -> str:
    """Return how many rows are cut and what that loses; empty where none is."""
    if not counts.cut_rows:
        return ""
    share = counts.lost_tokens / counts.tokens
    percent = f"{share:.1%}" if share >= 0.001 else "under 0.1%"
    return (
        f"{counts.cut_rows:,} of {counts.rows:,} rows are cut at data.max_length {max_length:,}: "
        f"{counts.lost_tokens:,} of {counts.tokens:,} tokens ({percent}) are lost"
    )


def fields_line(fields: Mapping[str, int], words: str) -> str:
    """Return the fields that have no part in what is trained, each with its rows; empty without any."""
    if not fields:
        return ""
    shown = [f"{one_line(name, 60)} ({count:,})" for name, count in [*fields.items()][:FIELDS]]
    more = f", and {len(fields) - FIELDS:,} more" if len(fields) > FIELDS else ""
    return f"{words}: {', '.join(shown)}{more}"


def side_lines(side: Side) -> Iterator[str]:
    """Yield what to know of a side beside its number of rows: nothing where all went well."""
    for kind in refused(side.quarantined()):
        yield kind.line()
    lists = [
        each / "quarantine.parquet"
        for each in (side.rows, side.tokens)
        if each.manifest().quarantined
    ]
    if lists:
        yield f"listed in {' and '.join(map(str, lists))}"
    manifest = side.tokens.manifest()
    counts = TokenCounts.from_json(manifest.details)
    lines = (
        cut_line(counts, int(manifest.inputs["max_length"])),  # type: ignore[call-overload]
        fields_line(
            side.rows.manifest().details["left_out"], "fields that are not read, with rows"
        ),
        fields_line(counts.left_out, "fields that the template leaves out, with rows"),
    )
    yield from filter(None, lines)
