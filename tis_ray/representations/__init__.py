"""How an example becomes a feature: one package a method, with its spec and its features.

What a method tells of itself is in its package's `__init__` and needs no torch; what computes is in
the modules beside it, and knows nothing of Ray or of where rows lie.
"""

from tis_ray.representations.spec import (
    REPRESENTATIONS,
    Build,
    Cascade,
    Features,
    Featuriser,
    Representation,
    Scorer,
    Warmup,
)

__all__ = [
    "REPRESENTATIONS",
    "Build",
    "Cascade",
    "Features",
    "Featuriser",
    "Representation",
    "Scorer",
    "Warmup",
]
