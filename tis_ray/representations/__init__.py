"""Representations, which turn examples into features: one package for each method.

A method's spec is in its package's `__init__` and needs no torch; what computes is in the modules
beside it, and knows nothing about Ray or where rows are stored.
"""

from tis_ray.representations.spec import (
    REPRESENTATIONS,
    Build,
    Cascade,
    ExactScores,
    Features,
    Featuriser,
    GivenFolder,
    Representation,
    Scorer,
    Warmup,
)

__all__ = [
    "REPRESENTATIONS",
    "Build",
    "Cascade",
    "ExactScores",
    "Features",
    "Featuriser",
    "GivenFolder",
    "Representation",
    "Scorer",
    "Warmup",
]
