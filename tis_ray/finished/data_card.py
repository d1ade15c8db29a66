"""The card of a subset: what it is, how it was chosen, from what, under which licences, how it is loaded."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterator

from tis_ray.config import Config
from tis_ray.data import described
from tis_ray.finished.subset import Subset
from tis_ray.version import __version__

LICENCE = re.compile(r"licen[cs]e", re.IGNORECASE)
MOST_VALUES = 20
"""Licences, or sources, of one column that are named."""


def data_card(subset: Subset, config: Config) -> str:
    """Return the card in Markdown."""
    choice, when = subset.choice, datetime.datetime.now(datetime.UTC)
    size = f"{len(subset.notes):,} rows"
    if choice.unit == "tokens":
        size += f", of {choice.budget:,} tokens at most"
    seeds = ", ".join(map(str, config.seed))
    facts = {
        "method": choice.method,
        "budget": f"{choice.budget:,} {choice.unit}: {size}",
        "model": config.model.name,
        "pool": described(config.data.pool),
        "queries": described(config.data.query),
        "seeds of the study": seeds,
        "ordering (fingerprint)": choice.ordered.fingerprint,
        "made": f"{when:%Y-%m-%d} by tis_ray {__version__}, study `{config.name}`",
    }
    return "\n".join(
        [
            "---",
            f"pretty_name: {choice.name}",
            "tags: [tis_ray, data-selection]",
            "---",
            f"# {choice.name}",
            "",
            f"{size} of a pool, chosen for the queries of a target task. Rows are in the order of rank, with",
            f"all columns that they came with; `{subset.column}` says of each why it was chosen.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {_cell(value)} |" for name, value in facts.items()),
            "",
            *_counted("Rows by source", [note["source"] for note in subset.notes]),
            *_licences(subset),
            "## Load it",
            "",
            "```python",
            "from datasets import load_from_disk",
            "",
            'rows = load_from_disk("FOLDER")  # or load_dataset("arrow", data_files="FOLDER/*.arrow")',
            "```",
            "",
        ]
    )


def _licences(subset: Subset) -> Iterator[str]:
    rows = subset.originals.as_table()
    names = [name for name in rows.column_names if LICENCE.search(name)]
    for name in names:
        yield from _counted(f"Licences, by `{name}`", rows[name].to_pylist())
    if not names:
        yield from ("No column of the rows names a licence: see where they come from.", "")


def _counted(title: str, values: list[object]) -> Iterator[str]:
    counts = Counter("none" if value is None else str(value) for value in values).most_common()
    yield from (f"## {title}", "", "| | rows |", "|---|---|")
    yield from (f"| {_cell(value)} | {count:,} |" for value, count in counts[:MOST_VALUES])
    if left := counts[MOST_VALUES:]:
        yield f"| {len(left)} others | {sum(count for _, count in left):,} |"
    yield ""


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")
