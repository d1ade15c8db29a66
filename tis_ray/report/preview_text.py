"""A preview in a terminal: facts and counts as lines, rows with what is learnt in colour.

Without colours, what is learnt stands in ⟦ ⟧ and what is cut off in ⟪ ⟫.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from tis_ray.data.pieces import Piece
from tis_ray.data.shown_text import one_line
from tis_ray.data.token_counts import TokenCounts, bins_between
from tis_ray.report.preview_record import Preview, ShownRow, SideLook
from tis_ray.report.preview_rows import drawn
from tis_ray.stages.side_report import cut_line, fields_line

BAR = 40
"""Characters of the longest bar."""
SOURCES = 12
"""Named of a schema."""

_STYLES = {"learnt": "bold green underline", "cut": "red strike"}
_SPECIAL, _NOTE = "cyan", "dim italic"
_OPENING = {"learnt": "⟦", "cut": "⟪"}
_CLOSING = {"learnt": "⟧", "cut": "⟫"}


def print_preview(preview: Preview, console: Console) -> None:
    """Print a preview. What comes from rows is drawn so that it cannot act on the terminal."""
    coloured = console.color_system is not None and not console.no_color

    def say(words: str | Text, indent: int = 0) -> None:
        text = Text(words) if isinstance(words, str) else words
        for line in text.wrap(console, console.width - indent, overflow="fold"):
            line.rstrip()
            console.print(Text(" " * indent) + line, highlight=False, soft_wrap=True)

    say(Text(one_line(preview.name), style="bold"))
    for name, value in preview.facts:
        say(f"{name:<18} {one_line(value)}", 2)
    for problem in preview.problems:
        say(Text(f"! {one_line(problem, 1000)}", style="yellow"), 2)
    if not preview.problems:
        say("no problem was found in how rows are encoded", 2)
    for side in preview.sides:
        console.print()
        say(Text(f"{side.side}: {one_line(side.where)}", style="bold"))
        for line in (*side_lines(side, preview.max_length), *bars(side.counts)):
            say(line, 2)
        for row in side.rows:
            console.print()
            say(Text(row_line(row), style="bold" if coloured else ""), 2)
            say(row_text(row.pieces, coloured), 4)
    console.print()
    say(legend(coloured))


def side_lines(side: SideLook, max_length: int) -> Iterator[str]:
    """Yield the counts of a side, a line each."""
    yield side.reach
    for schema, sources in by_schema(side.schemas).items():
        named = [
            f"{one_line(source, 60)} {count:,}" for source, count in [*sources.items()][:SOURCES]
        ]
        more = f", and {len(sources) - SOURCES:,} more" if len(sources) > SOURCES else ""
        yield f"{sum(sources.values()):,} as {schema}, by source: {', '.join(named)}{more}"
    for kind in side.refused:
        yield f"refused: {kind.line()}"
    yield from filter(
        None,
        (
            *map(one_line, side.repeats),
            cut_line(side.counts, max_length),
            fields_line(side.left_out, "fields that are not read, with rows"),
            fields_line(side.counts.left_out, "fields that the template leaves out, with rows"),
        ),
    )


def by_schema(schemas: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Return rows by schema and source, from rows by source and schema; the most frequent source first."""
    turned: dict[str, dict[str, int]] = {}
    for source, counts in schemas.items():
        for schema, count in counts.items():
            turned.setdefault(schema, {})[source] = count
    return {
        schema: dict(sorted(sources.items(), key=lambda item: -item[1]))
        for schema, sources in turned.items()
    }


def bars(counts: TokenCounts) -> Iterator[str]:
    """Yield the histogram of tokens a row, a line for each bin."""
    yield "tokens a row, before the cut:"
    bins = histogram(counts)
    width = max(len(span) for span, _, _ in bins)
    for span, count, share in bins:
        bar = "█" * round(BAR * share) or ("▏" if count else "")
        yield f"  {span:>{width}}  {count:>9,}  {bar}"


def histogram(counts: TokenCounts) -> list[tuple[str, int, float]]:
    """Return the bins of tokens a row: from and to, how many rows, and their share of the largest."""
    most = max(counts.lengths.values(), default=1)
    return [
        (f"{first:,} to {end:,}", count := counts.lengths.get(end, 0), count / most)
        for first, end in bins_between(min(counts.lengths), max(counts.lengths))
    ]


def row_line(row: ShownRow) -> str:
    """Return where a row is from and what of it is learnt."""
    facts = [
        one_line(row.id, 80),
        f"{one_line(row.file, 80)} line {row.line}",
        f"source {one_line(row.source, 60)}",
        row.schema,
        f"{row.tokens:,} tokens, {row.trained:,} learnt",
    ]
    return " · ".join(facts) + (f", {row.cut:,} cut off" if row.cut else "")


def row_text(pieces: Sequence[Piece], coloured: bool) -> Text:
    """Return a row's text with what is learnt, special and cut off marked."""
    text, before = Text(), ""
    for part in drawn(pieces, marks="" if coloured else "⟦⟧⟪⟫"):
        kind = "cut" if part.cut else "learnt" if part.learnt else ""
        if kind != before and not coloured:
            _close(text, before)
            text.append(_OPENING.get(kind, ""))
        style = (
            f"{_STYLES.get(kind, '')} {_SPECIAL if part.special else ''}"
            if not part.note
            else _NOTE
        )
        text.append(part.text, style.strip() if coloured else "")
        before = kind
    if not coloured:
        _close(text, before)
    if text.plain.endswith("\n"):
        text.right_crop(1)
    return text


def _close(text: Text, kind: str) -> None:
    """Add the closing bracket, on the same line as what it closes."""
    if not kind:
        return
    at_end = text.plain.endswith("\n")
    if at_end:
        text.right_crop(1)
    text.append(_CLOSING[kind] + "\n" * at_end)


def legend(coloured: bool) -> Text:
    """Return what the marks mean."""
    if not coloured:
        return Text("⟦learnt⟧  ⟪cut off⟫  ↵ line end  ⇥ tab")
    parts = [
        ("learnt", _STYLES["learnt"]),
        ("special token", _SPECIAL),
        ("cut off", _STYLES["cut"]),
    ]
    words = [piece for part in parts for piece in (part, "  ")]
    return Text.assemble(*words, "↵ line end  ⇥ tab")
