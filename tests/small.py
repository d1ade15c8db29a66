"""A study small enough to run in a test: every stage, the shipped model, a hundred rows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "name": "small",
    "model": {"name": "builtin"},
    "data": {
        "pool": {"kind": "builtin", "rows": 160},
        "query": {"kind": "builtin", "skill": "reverse_word", "rows": 4},
        "test": {"kind": "builtin", "skill": "reverse_word", "rows": 6},
        "max_length": 128,
    },
    "representation": "less",
    "budget": 12,
    "seed": 0,
    "less": {
        "warmup": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "min_rows": 32},
        "sketch": {"width": 512},
        "dtype": "float32",
    },
    "finetune": {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "workers": 0},
    "evaluation": {"max_new_tokens": 8},
    "batch": {"shard_rows": 40},
    "compute": {"actors": 1},  # each loads the libraries, which takes longer than its work here
    "tracking": {"enabled": False},
}


def small_study(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the study as a config mapping; `a__b=value` changes the field a.b."""
    study = copy.deepcopy(SMALL)
    study |= {"runs": str(folder / "runs"), "artifacts": str(folder / "artifacts")}
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = study
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return study


def ordering_bytes(folder: Path, method: str = "less-round_robin") -> bytes:
    return (folder / "runs" / "small" / "orderings" / method / "ordering.parquet").read_bytes()
