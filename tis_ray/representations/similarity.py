"""Scores from features: weighted sums of cosines over checkpoints, with an estimate of their noise.

A sketch has two halves that share no randomness. Each alone gives an estimate of a cosine; half the
difference of the two has the variance of the error of their mean, which is what the whole sketch
gives. So scores come with their own error estimate, without any exact gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from tis_ray.errors import InputError


class Scored(NamedTuple):
    """Scores of M queries and E candidates, and the halves' differences.

    scores_ME: float32, sum_c w_c <q_c, p_c>.
    noise_ME: float32, sum_c w_c |q_c| |p_c| (cos0_c - cos1_c) / 2 with cos_h the cosine of half h
        alone (lengths are 1, apart from the error of coarse storage); None if the features have no
        halves. Its mean square estimates the variance of a score's error.
    """

    scores_ME: np.ndarray
    noise_ME: np.ndarray | None


class QuerySide:
    """The queries' features, ready to be scored against any number of candidates."""

    def __init__(self, values_MCK: np.ndarray, weights_C: np.ndarray, halves: bool) -> None:
        self.weights = weights_C.tolist()
        self.halves = 2 if halves else 1
        self.shape = values_MCK.shape[1:]
        self.parts = _parts(values_MCK, self.halves)

    def score(self, values_ECK: np.ndarray) -> Scored:
        """Score candidates (E, C, K), unit or zero vectors."""
        if values_ECK.shape[1:] != self.shape:
            raise InputError(
                f"features: vectors of pool rows have shape {values_ECK.shape[1:]} (checkpoints, "
                f"numbers), those of queries {self.shape}; a representation must give both sides the "
                "same"
            )
        candidates = _parts(values_ECK, self.halves)
        examples = values_ECK.shape[0]
        scores_ME = torch.zeros(self.parts[0][0].values_EK.shape[0], examples)
        noise_ME = torch.zeros_like(scores_ME) if self.halves == 2 else None
        for weight, queries, pool in zip(self.weights, self.parts, candidates, strict=True):
            cosines = []
            for q, p in zip(queries, pool, strict=True):
                products_ME = q.values_EK @ p.values_EK.T
                scores_ME.add_(products_ME, alpha=weight)
                if noise_ME is not None:
                    cosines.append(products_ME.div_(q.shares_E[:, None]).div_(p.shares_E))
            if noise_ME is not None:
                noise_ME.add_(cosines[0] - cosines[1], alpha=weight / 2)
        return Scored(scores_ME.numpy(), None if noise_ME is None else noise_ME.numpy())


class _Part(NamedTuple):
    """One half of the features at one checkpoint, and its share of each vector's length.

    The share of a zero half counts as 1.
    """

    values_EK: torch.Tensor
    shares_E: torch.Tensor


def _parts(values_ECK: np.ndarray, halves: int) -> list[list[_Part]]:
    values = torch.from_numpy(np.ascontiguousarray(values_ECK, dtype=np.float32))
    parts = []
    for c in range(values.shape[1]):
        pieces = values[:, c].chunk(halves, dim=1)
        lengths = [torch.linalg.vector_norm(piece, dim=1) for piece in pieces]
        whole = torch.linalg.vector_norm(values[:, c], dim=1)
        shares = [torch.where(length > 0, length / whole, 1.0) for length in lengths]
        parts.append([_Part(*part) for part in zip(pieces, shares, strict=True)])
    return parts
