"""The rows of one side as a run read them: found by what people call them, read by the shards that are needed."""

from __future__ import annotations

import heapq
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile

import numpy as np
import pyarrow as pa

from tis_ray.data.shown_text import one_line
from tis_ray.storage import Place
from tis_ray.store import TableRow, read_manifest, read_tables
from tis_ray.store.shard_layout import ShardLayout
from tis_ray.store.sides import layout_of, row_dicts

_LOOKED_AT = 200
"""Ids that are compared letter by letter with one that is unknown."""


@dataclass(frozen=True)
class StoredRows:
    """A `rows-*` artifact: `rows-00000.parquet` and so on, cut as `layout` says."""

    folder: Place
    layout: ShardLayout

    @classmethod
    def of(cls, folder: Place) -> StoredRows:
        """Open an artifact's folder."""
        return cls(folder, layout_of(read_manifest(folder).inputs))

    def shard(self, row: int) -> int:
        """Return the number of the shard that a row lies in: of rows, of tokens, and of features."""
        return int(self.layout.shards_of(np.array(row)))

    def read(self, rows: Collection[int]) -> dict[int, TableRow]:
        """Return rows by their numbers; reads the shards that they lie in."""
        wanted = set(rows)
        shards = sorted({self.shard(row) for row in wanted})
        return {row["row"]: row for n in shards for row in self._shard(n) if row["row"] in wanted}

    def find(self, name: str) -> int | None:
        """Return the number of a row by its id, by the id that its file gives it, or by `FILE:LINE`.

        The first of equals; None where there is none.
        """
        # Not by Arrow's own comparison, which imports pandas.
        columns = self._columns("row", "id", "given_id", "line", "file").to_pydict()
        for names in (columns["id"], columns["given_id"]):
            if name in names:
                return int(columns["row"][names.index(name)])
        file, line = place_of(name)
        rows = zip(columns["row"], columns["line"], columns["file"], strict=True)
        return next(
            (row for row, at, in_file in rows if at == line and is_file(file, in_file)), None
        )

    def nearest(self, name: str) -> list[str]:
        """Return the ids that a wrong one was perhaps meant to be."""
        ids = self._columns("id")["id"].to_pylist()
        alike = heapq.nlargest(_LOOKED_AT, ids, key=lambda known: _ends_in_common(known, name))
        return get_close_matches(name, alike, n=3, cutoff=0.7)

    def _shard(self, number: int) -> Iterator[TableRow]:
        return iter(row_dicts(self.folder / f"rows-{number:05d}.parquet"))

    def _columns(self, *names: str) -> pa.Table:
        return read_tables(self.folder, "rows-*.parquet", names)


def place_of(name: str) -> tuple[str, int]:
    """Return file and line of a name such as `pool.jsonl:17`; line 0 where it is none."""
    file, _, line = name.rpartition(":")
    return (file, int(line)) if file and line.isascii() and line.isdigit() else ("", 0)


def is_file(named: str, file: str) -> bool:
    """Return whether a path that somebody typed means a file that a source calls `file`."""
    named = named.replace(os.sep, "/").removeprefix("./")
    return named == file or named.endswith(f"/{file}") or file.endswith(f"/{named}")


def turns(row: TableRow) -> list[tuple[str, str]]:
    """Return who speaks and the text, for each turn; a prompt and its label where a row has them ready.

    Thoughts and calls of tools are turns of their own.
    """
    if "prompt" in row:
        return [("prompt", row["prompt"]), ("label", row["label"])]
    said: list[tuple[str, str]] = []
    for turn in row["messages"]:
        name = f"{turn['role']} ({turn['name']})" if turn.get("name") else turn["role"]
        if turn.get("reasoning_content"):
            said.append((f"{name}, thinking", turn["reasoning_content"]))
        if turn["content"] or not turn.get("tool_calls"):
            said.append((name, turn["content"]))
        for call in turn.get("tool_calls", ()):
            function = call["function"]
            said.append((f"{name}, calling", f"{function['name']}({function['arguments']})"))
    return said


def first_words(row: TableRow, most: int = 60) -> str:
    """Return the beginning of what a row's user says, on one line."""
    said = turns(row)
    spoken = [text for role, text in said if role.partition(" ")[0] in ("user", "prompt")]
    return one_line((spoken or [text for _, text in said] or [""])[0].strip(), most)


def whole_text(row: TableRow) -> str:
    """Return all that a row says, a line for who speaks before each turn."""
    return "\n".join(f"{role}:\n{text}" for role, text in turns(row))


def _ends_in_common(a: str, b: str) -> int:
    """Return how many characters two names share at their beginnings and at their ends."""
    return _in_common(a, b) + _in_common(a[::-1], b[::-1])


def _in_common(a: str, b: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
