"""Selected rows: the rows of the user's file as they came, each with why it was chosen.

A `Choice` is the beginning of an ordering, a `Subset` the rows that it names. Both are read from what
a run has left and from the pool's own files, without Ray and without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypedDict

import numpy as np
import pyarrow as pa

from tis_ray.data import Originals, dialogue_text, original_rows
from tis_ray.errors import InputError
from tis_ray.settings import AnySource
from tis_ray.storage import Place, listed
from tis_ray.store import read_json, read_manifest, read_parquet
from tis_ray.store.columns import Column, struct_of
from tis_ray.store.sides import row_dicts

COLUMN = "tis_ray"
"""What is known of a row stands in this column, or in `tis_ray_2` where the rows have one already."""
PULLED_BY = {
    "id": Column(pa.string(), "what the study calls the query"),
    "text": Column(pa.string(), "its turns"),
    "file": Column(pa.string(), "the file that it stands in"),
    "line": Column(pa.int64(), "its line there, from 1"),
}
"""The query in a note."""
NOTES = {
    "rank": Column(pa.int64(), "place in the ordering, from 1, the best"),
    "score": Column(
        pa.float64(), "what the selector ranked by; null where an ordering had no scores"
    ),
    "query": Column(struct_of(PULLED_BY), "the query that pulled the row; null where none did"),
    "id": Column(
        pa.string(), "what the study calls the row; a hash of its content where it gives no id"
    ),
    "source": Column(pa.string(), "what the study counts the row by"),
    "index": Column(pa.int64(), "number of the row among the usable rows of the pool, from 0"),
    "file": Column(pa.string(), "the file that the row stands in, its path within the pool"),
    "line": Column(pa.int64(), "its line, element or row there, from 1"),
    "why": Column(
        pa.string(),
        "the same as a sentence: `rank 3: pulled by query q7 (examples.jsonl, line 7) with score 0.81`",
    ),
}
"""What is known of a selected row."""
NOTE = struct_of(NOTES)


Unit = Literal["examples", "tokens"]


class QueryNote(TypedDict):
    """A query: its id (of its content, where its row gives none), its dialogue as text, its place."""

    id: str
    text: str
    file: str
    line: int


class Note(TypedDict):
    """What is known of a selected row.

    rank: from 1. score, query: None where no query pulled it. id, source: as the study names them.
    index: number among the usable rows of the pool, from 0, as in `ordering.parquet`. file, line: where
    the row stands, from 1. why: the same in words.
    """

    rank: int
    score: float | None
    query: QueryNote | None
    id: str
    source: str
    index: int
    file: str
    line: int
    why: str


@dataclass(frozen=True)
class Ordered:
    """An ordering that a run has left, in its folder; `method` names it (`less-round_robin`)."""

    method: str
    folder: Place
    unit: Unit

    @cached_property
    def table(self) -> pa.Table:
        """The rows of the largest budget, best first."""
        return read_parquet(self.folder / "ordering.parquet")

    @cached_property
    def budgets(self) -> dict[int, int]:
        """How many of the rows each budget of the study has."""
        return {each["budget"]: each["rows"] for each in read_json(self.folder / "budgets.json")}

    def rows_of(self, side: Literal["pool", "query"]) -> Place:
        """Return the folder of the rows that were ranked, or that ranked them."""
        return self._beside(f"rows-{self._made_of['rows'][side]}")

    @property
    def tokens_of_pool(self) -> Place:
        """The folder of the tokens of the rows that were ranked."""
        return self._beside(f"tokens-{self._made_of['tokens']}")

    @cached_property
    def fingerprint(self) -> str:
        """What names the ordering."""
        return self.folder.name.rpartition("-")[2]

    def choice(self, budget: int) -> Choice:
        """Return what a budget selects: one of the study's, or a smaller one.

        Raises InputError for one that is larger than the ordering.
        """
        most = max(self.budgets)
        require_budget(budget, most, self.unit, self.method)
        rows = self.budgets.get(budget)
        if rows is None:
            rows = budget if self.unit == "examples" else self._that_fit(budget)
        if not 0 < rows <= self.table.num_rows:
            raise InputError(_no_budget(budget, most, self.unit, self.method))
        return Choice(self.method, budget, self.unit, self.table.slice(0, rows), self)

    def _that_fit(self, tokens: int) -> int:
        """Return how many of the first rows have so many tokens at most."""
        index_B = self.table["index"].to_numpy()
        lengths_B = np.zeros(len(index_B), np.int64)
        order = np.argsort(index_B)
        for path in listed(self.tokens_of_pool, "tokens-*.parquet"):
            part = read_parquet(path, columns=["row", "input_ids"])
            rows = part["row"].to_numpy()
            places = np.searchsorted(index_B[order], rows)
            hits = np.flatnonzero(index_B[order][np.minimum(places, len(order) - 1)] == rows)
            lengths = part["input_ids"].combine_chunks().value_lengths().to_numpy()
            lengths_B[order[places[hits]]] = lengths[hits]
        return int(np.searchsorted(np.cumsum(lengths_B), tokens, side="right"))

    @cached_property
    def _made_of(self) -> dict[str, Any]:
        return read_manifest(self.folder).details

    def _beside(self, name: str) -> Place:
        return self.folder.parent / name


@dataclass(frozen=True)
class Choice:
    """The beginning of an ordering that a budget selects."""

    method: str
    budget: int
    unit: Unit
    table: pa.Table
    ordered: Ordered

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.method}-{self.budget}" + ("-tokens" if self.unit == "tokens" else "")

    @property
    def places(self) -> list[tuple[str, int]]:
        """File and line of each row, best first."""
        files, lines = (self.table[name].to_pylist() for name in ("file", "line"))
        return list(zip(files, lines, strict=True))

    def notes(self) -> list[Note]:
        """Return what is known of each row, best first."""
        queries = self._queries()
        return [
            self._note(row, queries.get(row["query"]))
            for row in self.table.select(
                ["rank", "score", "query", "id", "source", "index", "file", "line"]
            ).to_pylist()
        ]

    def _note(self, row: dict[str, Any], query: QueryNote | None) -> Note:
        rank, score = row["rank"] + 1, row["score"]
        if query is None:
            words = f"rank {rank}: placed there by {self.method}, pulled by no query"
        else:
            place = f"{query['file']}, line {query['line']}"
            words = f"rank {rank}: pulled by query {query['id']} ({place})"
        words += "" if score is None else f" with score {score:.4g}"
        beside = {name: row[name] for name in ("id", "source", "index", "file", "line")}
        return {"rank": rank, "score": score, "query": query, **beside, "why": words}  # type: ignore[typeddict-item]

    def _queries(self) -> dict[int, QueryNote]:
        wanted = {row for row in self.table["query"].to_pylist() if row >= 0}
        if not wanted:
            return {}
        return {
            row["row"]: {
                "id": row["id"],
                "text": dialogue_text(row["messages"]),
                "file": row["file"],
                "line": row["line"],
            }
            for path in listed(self.ordered.rows_of("query"), "rows-*.parquet")
            for row in row_dicts(path, wanted)
        }


@dataclass(frozen=True)
class Subset:
    """What a choice selects: its rows as they came, in the order of rank, and what is known of each."""

    choice: Choice
    originals: Originals
    notes: list[Note]

    @property
    def column(self) -> str:
        """The name under which the notes stand beside the rows."""
        return free_name(self.originals.columns)

    def table(self) -> pa.Table:
        """Return rows and notes as an Arrow table; of JSON lines, with the types that Arrow finds."""
        return self.originals.as_table().append_column(
            pa.field(self.column, NOTE), pa.array(self.notes, NOTE)
        )


def require_budget(budget: object, most: int, unit: Unit, method: str) -> None:
    """Raise InputError unless a budget is a whole number from 1 to the largest that was ranked for."""
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise InputError(f"budget: found {budget!r}, expected a whole number")
    if not 0 < budget <= most:
        raise InputError(_no_budget(budget, most, unit, method))


def _no_budget(budget: int, most: int, unit: Unit, method: str) -> str:
    return (
        f"budget: found {budget}, but {method} ranks rows for at most {most} {unit}, the largest budget of its "
        "study, and 1 row at least; ask for less, or raise `budget` and select again"
    )


def subsets(choices: Sequence[Choice], source: AnySource) -> list[Subset]:
    """Return the subsets of orderings of one pool, whose files are read once for all of them.

    Raises InputError where the pool has changed since it was read.
    """
    places = list(dict.fromkeys(place for choice in choices for place in choice.places))
    read = read_manifest(choices[0].ordered.rows_of("pool")).inputs["content"]
    originals = original_rows(source, places, fingerprint=str(read))
    number = {place: n for n, place in enumerate(places)}
    return [
        Subset(choice, originals.take([number[place] for place in choice.places]), choice.notes())
        for choice in choices
    ]


def free_name(columns: Sequence[str]) -> str:
    """Return `tis_ray`, or the first of `tis_ray_2`, `tis_ray_3`, ... that rows do not have yet."""
    name, number = COLUMN, 1
    while name in columns:
        number += 1
        name = f"{COLUMN}_{number}"
    return name
