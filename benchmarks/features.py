"""LESS features (gradients, Adam direction, sketch, unit rows) over their floor: plain passes.

A plain pass is a batched forward and backward of the same adapter over the same batches, which
gives one summed gradient and no feature. Two of them: with logits at every position, as
`transformers` makes them, and the kinder one, with logits at label positions only, as ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from benchmarks.lab import Lab, checkpoint, machine, open_lab, quiet
from benchmarks.timing import interleaved, verdict
from tis_ray.batches import IGNORED, Batch, batch_losses, collate
from tis_ray.data import builtin
from tis_ray.models.lora import without_wrapper
from tis_ray.settings import ModelConfig

BUILTIN_ROWS, BUILTIN_REPEATS = 256, 5
SMOLLM2_ROWS, LONG_ROWS, SMOLLM2_REPEATS = 16, 4, 3
LONG_PARTS = 6
TARGET = "<= 1.25"


def long_rows(rows: int, parts: int) -> list[dict[str, Any]]:
    """Return rows of one question and an answer of several sentences, most tokens being labels."""
    pool = builtin.pool_rows(rows * parts, seed=2)
    texts = [row["messages"][0]["content"] for row in pool]
    return [
        {
            "messages": [
                {"role": "user", "content": texts[start]},
                {"role": "assistant", "content": " ".join(texts[start + 1 : start + parts])},
            ]
        }
        for start in range(0, len(texts), parts)
    ]


def logits_everywhere(model: Any, batch: Batch) -> None:
    model.zero_grad()
    logits = model(input_ids=batch.input_ids, use_cache=False).logits
    targets = batch.targets.flatten()
    functional.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=IGNORED).backward()


def logits_at_labels(model: Any, batch: Batch) -> None:
    model.zero_grad()
    batch_losses(without_wrapper(model), batch).sum().backward()


def one_at_a_time(lab: Lab) -> None:
    for row in lab.rows:
        logits_everywhere(lab.model, collate([row]))


def measure(lab: Lab, repeats: int, loop: bool = False) -> None:
    """Print our time over that of the plain passes; `loop` adds the pass over one example each."""

    def plain(step: Callable[[Any, Batch], None]) -> None:
        for batch in lab.batches:
            step(lab.model, batch)

    def features(rows: list[dict[str, Any]] = lab.rows) -> None:
        lab.less.features(rows, "pool")

    features(lab.rows[:1])  # makes the sketch's tables
    logits_everywhere(lab.model, collate(lab.rows[:1]))
    works: dict[str, Callable[[], Any]] = {
        "features": features,
        "plain batched forward + backward": lambda: plain(logits_everywhere),
        "the same, logits at label positions only": lambda: plain(logits_at_labels),
    }
    if loop:
        works["one example at a time, no projection"] = lambda: one_at_a_time(lab)
    found = interleaved(works, repeats)
    print(f"  {lab.describe()}; {repeats} interleaved repeats")
    for name in list(works)[1:3]:
        verdict(f"features ÷ {name}", found["features"], found[name], TARGET)
    for name in list(works)[3:]:
        verdict(f"{name} ÷ features", found[name], found["features"], ">= 1")


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    print(f"  CPU seconds; {machine()}")
    small, real = ModelConfig(), ModelConfig(name="smollm2")
    with checkpoint(small) as path:
        rows = builtin.pool_rows(BUILTIN_ROWS, seed=0)
        measure(open_lab("built-in model", small, path, rows), BUILTIN_REPEATS, loop=True)
    with checkpoint(real) as path:
        for raw in (builtin.pool_rows(SMOLLM2_ROWS, seed=0), long_rows(LONG_ROWS, LONG_PARTS)):
            measure(open_lab("SmolLM2-135M", real, path, raw), SMOLLM2_REPEATS)


if __name__ == "__main__":
    main()
