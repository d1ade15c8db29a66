"""Texts for a study's record: rows as they are read, and what the trained models answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tis_ray.analysis import Cell, Method
from tis_ray.analysis.study_values import ZERO_SHOT_PLAIN
from tis_ray.metrics.description import describe
from tis_ray.report.recorded_texts import (
    MOST_ANSWERS,
    MOST_ROWS,
    GradedAnswers,
    MethodAnswers,
    shared_out,
)
from tis_ray.stages.cell_evaluation import NO_TEMPLATE
from tis_ray.storage import Place, listed, place
from tis_ray.store import read_parquet
from tis_ray.store.sides import Side

TEST_ROWS = "test rows"
_BESIDE = {"id", "loss", "label", "answer", "finished", "prompt", "references", "error"}
"""Columns of a cell's rows that are no metric."""


def side_texts(
    side: Side, wanted: Collection[int] | None = None, *, last: bool = True
) -> list[dict[str, Any]]:
    """Return rows of a side in its order: row, id, source, file, line, and their turns as one text.

    wanted: numbers of the rows; all where None. last: whether the last turn, the label, is in the text.
    """
    columns = ["row", "id", "source", "file", "line", "messages"]
    numbers = None if wanted is None else np.array([*wanted], np.int64)
    shards = range(side.shards) if numbers is None else side.shards_of(numbers)
    found = []
    for shard in sorted(shards):
        table = side.row_table(shard).select(columns)
        if numbers is not None:
            table = table.filter(pa.array(np.isin(table["row"].to_numpy(), numbers)))
        for row in table.to_pylist():
            turns = row["messages"] if last else row["messages"][:-1]
            text = "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
            found.append({**row, "text": text})
    return found


def graded_answers(cells: Sequence[Cell], test: Side) -> list[GradedAnswers]:
    """Return the answers to the test rows and to each task, where cells have graded any.

    A cell whose artifact is gone is left out, and so is a set that no cell has.
    """
    prompts = {row["id"]: row["text"] for row in side_texts(test, last=False)}
    tasks = dict.fromkeys(
        path.stem for cell in cells for path in listed(_folder(cell), "tasks/*.parquet")
    )
    sets = [_graded(TEST_ROWS, "test_rows.parquet", "", cells, prompts)]
    sets += [_graded(task, f"tasks/{task}.parquet", f"{task}/", cells, {}) for task in tasks]
    return [found for found in sets if found is not None]


def _folder(cell: Cell) -> Place:
    folder = place(cell.artifact or "/nowhere")
    return folder / NO_TEMPLATE if cell.method.representation == ZERO_SHOT_PLAIN else folder


def _graded(
    name: str, file: str, prefix: str, cells: Iterable[Cell], prompts: dict[str, str]
) -> GradedAnswers | None:
    """Return the answers in one file of each cell, by the first metric that graded them."""
    groups: dict[tuple[Method, int], list[dict[str, list[Any]]]] = {}
    for cell in (each for each in cells if each.draw is None):
        path = _folder(cell) / file
        if path.is_file():
            groups.setdefault((cell.method, cell.budget), []).append(read_parquet(path).to_pydict())
    first = next((tables[0] for tables in groups.values()), {})
    metric = next(
        (c for c in first if c not in _BESIDE and f"{c}_read" in first and "answer" in first), None
    )
    if metric is None:
        return None
    ids = first["id"]
    shown = slice(MOST_ROWS)
    kept = {
        group: same
        for group, tables in groups.items()
        if (same := [t for t in tables if t["id"] == ids and metric in t])
    }
    asked = first.get("question", [prompts.get(row, "") for row in ids])[shown]
    labels = [_text(label) for label in first.get("label", first.get("references", ids))[shown]]
    counted = [
        [
            Counter(t["answer"][i] or "" for t in tables).most_common()
            for i in range(len(ids[shown]))
        ]
        for tables in kept.values()
    ]
    texts = iter(
        shared_out(
            [*asked, *labels, *(text for c in counted for row in c for text, _ in row)],
            MOST_ANSWERS,
        )
    )
    asked, labels = ([next(texts) for _ in part] for part in (asked, labels))
    methods: list[MethodAnswers] = [
        {
            **method.to_json(),  # type: ignore[typeddict-item]
            "budget": budget,
            "models": len(tables),
            "values": np.mean([t[metric][shown] for t in tables], axis=0).round(6).tolist(),
            "answers": [[[next(texts), times] for _, times in row] for row in found],
        }
        for ((method, budget), tables), found in zip(kept.items(), counted, strict=True)
    ]
    return {
        "name": name,
        "metric": describe(prefix + metric).name,
        "left_out": len(ids) - len(ids[shown]),
        "rows": [
            {"id": row, "prompt": prompt, "label": label}
            for row, prompt, label in zip(ids[shown], asked, labels, strict=True)
        ],
        "methods": methods,
    }


def _text(label: object) -> str:
    return " | ".join(map(str, label)) if isinstance(label, list) else str(label)
