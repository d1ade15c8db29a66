"""An explained row for people: what each ordering says of it, and its text beside its query's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import set_cell_size
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tis_ray.data.shown_text import one_line, shown_text
from tis_ray.finished.explain import Explained, NearRows, Neighbour, Verdict
from tis_ray.finished.shared_words import LETTERS, RUN, Spans, longest, shared_runs
from tis_ray.finished.stored_rows import turns
from tis_ray.store import TableRow

MOST_NAMED = 5
"""Near-duplicates that are listed."""
MOST_SHOWN = 1500
"""Characters of one turn that are shown."""
SHARED = "bold green"


def print_explained(found: Explained, console: Console, several: bool) -> None:
    """Print what one study says of a row; `several` names the study."""
    for part in _parts(found, several):
        console.print(part, highlight=False, soft_wrap=isinstance(part, Text))


def _parts(found: Explained, several: bool) -> Iterator[RenderableType]:
    if several:
        yield Rule(one_line(found.study), align="left")
    yield _named(found)
    for verdict in found.verdicts:
        yield _line(verdict)
        if len(verdict.checkpoints) > 1:
            yield _checkpoints(verdict)
        if verdict.beside:
            yield _beside(verdict)
    for near in found.near:
        yield _near(near)
    if found.row is None:
        return
    asked: dict[str, list[str]] = {}
    for verdict in found.verdicts:
        if verdict.query_id in found.queries:
            asked.setdefault(verdict.query_id, []).append(verdict.method)
    for name, methods in asked.items():
        yield from _side_by_side(found.row, found.queries[name], methods)
    if not asked:
        yield from _side_by_side(found.row, None, [])


def _named(found: Explained) -> Text:
    row = found.row
    if row is None:
        return Text(one_line(found.example), style="bold")
    given = row.get("given_id")
    said = Text(one_line(row["id"]), style="bold")
    said.append(
        f"  source {one_line(row['source'])}; {row['file']}, line {row['line']}", style="not bold"
    )
    if given and given != row["id"]:
        said.append(f"; its own id is {one_line(given)}", style="not bold")
    return said


def _line(verdict: Verdict) -> Text:
    said = Text(f"{verdict.method}: ", style="bold")
    if verdict.rank is None:
        said.append(f"not among the first {verdict.of}", style="yellow")
        if verdict.refused:
            said.append(f"; not used, {one_line(verdict.refused)}")
        elif verdict.place is not None:
            said.append(
                f"; best score {verdict.score:.4f}, by query {one_line(verdict.query_id or '?')}: place "
                f"{verdict.place:,} of {verdict.candidates:,} candidates"
            )
        return said
    said.append(f"rank {verdict.rank} of {verdict.of}", style="green")
    if verdict.score is not None:
        said.append(f", score {verdict.score:.4f}")
    if verdict.pulled:
        said.append(f", pulled by query {one_line(verdict.query_id or '?')}")
    elif verdict.query_id is None:
        said.append(", pulled by no query")
    else:
        said.append(f", pulled by no single query; the nearest is {one_line(verdict.query_id)}")
    if verdict.margin is not None:
        said.append(f", margin {verdict.margin:.4f}")
    return said


def _checkpoints(verdict: Verdict) -> Table:
    """Return what each checkpoint adds to the query's score."""
    table = _table()
    table.add_column("checkpoint")
    for number in range(1, len(verdict.checkpoints) + 1):
        table.add_column(str(number), justify="right")
    table.add_column("together", justify="right")
    parts = [*verdict.checkpoints, sum(verdict.checkpoints)]
    table.add_row("adds", *(f"{part:.4f}" for part in parts))
    return table


def _beside(verdict: Verdict) -> Text:
    """Return the neighbours in rank, a line each, with the row itself in its place."""
    itself = Neighbour("this row", verdict.rank, verdict.score)
    lines = []
    for row in sorted([*verdict.beside, itself], key=lambda row: row.rank or 0):
        score = " " * 8 if row.score is None else f"{row.score:8.4f}"
        name = set_cell_size(one_line(row.id, 36), 40)
        style = "bold" if row is itself else "dim"
        lines.append(Text(f"  {row.rank:>8}  {score}  {name}{row.begins}", style=style))
    return Text("\n").join(lines)


def _near(near: NearRows) -> Text:
    said = Text(f"{near.representation}: ", style="bold")
    if near.rows is None:
        return said.append(
            f"near-duplicates were not looked for ({near.size / 1e9:.2g} GB of features); "
            f"--near {near.cosine:g} looks"
        )
    said.append(f"{len(near.rows)} near-duplicate(s) in the pool (cosine >= {near.cosine:g})")
    for row in near.rows[:MOST_NAMED]:
        rank = "" if row.rank is None else f", rank {row.rank}"
        said.append(f"\n  {row.cosine:.3f}{rank}  {one_line(row.id, 40)}  {row.begins}")
    if len(near.rows) > MOST_NAMED:
        said.append(f"\n  and {len(near.rows) - MOST_NAMED} more")
    return said


def _side_by_side(
    row: TableRow, query: TableRow | None, methods: Sequence[str]
) -> Iterator[RenderableType]:
    """Yield the texts of a row and a query, with what they have in common marked and named."""
    mine, theirs = turns(row), turns(query) if query else []
    texts = [text for _, text in mine]
    own, others = shared_runs(texts, [text for _, text in theirs])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), expand=True)
    table.add_column("row", ratio=1, overflow="fold")
    if query:
        table.add_column(Text(f"query {one_line(query['id'])}"), ratio=1, overflow="fold")
    table.add_row(_said(mine, own), *([_said(theirs, others)] if query else []))
    yield Text()
    yield table
    if query:
        parts = longest(texts, own)
        named = "; ".join(f"“{one_line(part, 80)}”" for part in parts)
        said = Text(f"in common ({', '.join(methods)}): ")
        nothing = f"no {RUN} words in a row, and no word of {LETTERS} letters"
        yield said.append(named, style=SHARED) if parts else said.append(nothing)


def _said(said: Sequence[tuple[str, str]], spans: Sequence[Spans]) -> Text:
    """Return turns as they are shown, with some spans of each marked."""
    shown = Text()
    for (role, text), marked in zip(said, spans, strict=True):
        shown.append(f"{shown_text(role)}\n", style="dim")
        _append(shown, text[:MOST_SHOWN], marked)
        if len(text) > MOST_SHOWN:
            shown.append(f" ... {len(text) - MOST_SHOWN:,} more characters", style="dim")
        shown.append("\n")
    shown.rstrip()
    return shown


def _append(shown: Text, text: str, spans: Spans) -> None:
    done = 0
    for begin, end in spans:
        shown.append(shown_text(text[done:begin]))
        shown.append(shown_text(text[begin:end]), style=SHARED)
        done = end
    shown.append(shown_text(text[done:]))


def _table() -> Table:
    return Table(box=None, show_edge=False, padding=(0, 1, 0, 2), header_style="dim")
