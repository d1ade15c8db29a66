"""What is measured for the price of a study; `tis_ray.study.sample` measures it."""

from __future__ import annotations

from typing import TypedDict


class Measured(TypedDict):
    """What was measured on a sample of the pool, and on a few query and test rows."""

    encoded: int
    """Pool rows that were encoded: those that the next fields are about."""
    tokens_per_row: float
    spread: float
    """Half the 95% interval of `tokens_per_row`, as a share of it."""
    usable: float
    """Share of them with a label to learn."""
    refused: dict[str, int]
    """The others by reason."""
    cut: float
    """Share of the usable that `data.max_length` cuts."""
    lost_tokens: float
    """Share of their tokens that is cut off."""
    sample: int
    """Pool rows that were trained on and featurised; 0 where the model is too large for this machine: then
    the seconds of what that model computes are NaN."""
    target_tokens: float
    """Tokens per query or test row."""
    tokenise: float
    """Seconds per row."""
    screen: float
    """Seconds per row of the screen for overlaps."""
    start: float
    """Seconds until a new process could load a model."""
    load: float
    """Seconds of loading the model."""
    train: float
    """Seconds per token of training an adapter."""
    finetune: float
    """Seconds per token of fine-tuning as the study does."""
    saved: float
    """Bytes of a trained model."""
    feature: dict[str, float]
    """Seconds per row and checkpoint, by representation."""
    held: dict[str, float]
    """Bytes per pool row that one process holds, by representation that gives scores of the whole pool at once."""
    width: dict[str, float]
    """Numbers of a feature, by representation; 0 where it has no vectors."""
    loss: float
    """Seconds per query or test row."""
    answer: float
    """Seconds per generated answer."""
    flops: float
    """Operations per second of a matrix product."""
    model: ModelSize
    """The model that is fine-tuned."""
    readers: dict[str, float]
    """Parameters of the model that reads the rows, by representation that reads tokens."""
    peak_mb: float
    """Largest memory of the process that measured, as each actor will have it."""


class ModelSize(TypedDict):
    """The shape of a language model: its parameters, those of an adapter, those that fine-tuning changes,
    and what decides how much memory its activations take."""

    parameters: float
    adapter: float
    trained: float
    hidden: int
    layers: int
    vocabulary: int
    bytes_each: int
    """Of a weight."""
