"""Batches of encoded rows: what training, evaluation and gradients share."""

from tis_ray.batches.batch import (
    IGNORED,
    Batch,
    Example,
    collate,
    needed_length,
    plan_batches,
)
from tis_ray.batches.batch_losses import batch_losses
from tis_ray.batches.packing import check_packing, packs
from tis_ray.batches.rotary import forget_lengths, own_rotary, rotary_depends_on_length

__all__ = [
    "IGNORED",
    "Batch",
    "Example",
    "batch_losses",
    "check_packing",
    "collate",
    "forget_lengths",
    "needed_length",
    "own_rotary",
    "packs",
    "plan_batches",
    "rotary_depends_on_length",
]
