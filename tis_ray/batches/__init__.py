"""Batches of encoded rows: what training, evaluation and gradients share."""

from tis_ray.batches.loss import batch_losses
from tis_ray.batches.packing import check_packing, packs
from tis_ray.batches.plan import (
    IGNORED,
    Batch,
    Example,
    collate,
    needed_length,
    plan_batches,
)

__all__ = [
    "IGNORED",
    "Batch",
    "Example",
    "batch_losses",
    "check_packing",
    "collate",
    "needed_length",
    "packs",
    "plan_batches",
]
