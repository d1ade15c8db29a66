"""Per-example gradients and what is made of them: directions, sketches, checkpoint weights.

Functions over tensors; nothing here knows about files, clusters or experiment tracking. Shape
letters: E examples of a batch, T tokens, P trainable parameters, K sketch width.
"""

from tis_ray.gradients.adam import (
    DirectionKind,
    MomentEstimate,
    adam_direction,
    direction,
    sign_direction,
)
from tis_ray.gradients.checkpoint_weights import learning_rate_weights
from tis_ray.gradients.dropout import DROPOUT_VERSION
from tis_ray.gradients.per_example import (
    PerExample,
    backward_per_example,
    check_per_example,
    per_example_gradients,
)
from tis_ray.gradients.sketch import (
    Sketch,
    SketchKind,
    checkpoint_seed,
    unit_rows,
    unusable_rows,
)
from tis_ray.gradients.tap import Sink

__all__ = [
    "DROPOUT_VERSION",
    "DirectionKind",
    "MomentEstimate",
    "PerExample",
    "Sink",
    "Sketch",
    "SketchKind",
    "adam_direction",
    "backward_per_example",
    "check_per_example",
    "checkpoint_seed",
    "direction",
    "learning_rate_weights",
    "per_example_gradients",
    "sign_direction",
    "unit_rows",
    "unusable_rows",
]
