"""Principal components: the plane in which the map of the pool shows features."""

from __future__ import annotations

import numpy as np


def principal_plane(
    pool_ND: np.ndarray, query_MD: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pool (N, 2) and the queries (M, 2) in the plane of the pool's largest variance.

    Principal components by a randomised range finder (Halko et al. 2011) with three power
    iterations; each axis points so that its largest loading is positive, so that the picture is
    the same each time. Where there are not two components, the rest is zero.
    """
    pool_ND = pool_ND.astype(np.float32)
    mean_D = pool_ND.mean(axis=0)
    centred_ND = pool_ND - mean_D
    rng = np.random.default_rng(seed)
    width = min(10, *centred_ND.shape)
    basis_Dw = rng.standard_normal((centred_ND.shape[1], width), dtype=np.float32)
    for _ in range(3):
        basis_Dw, _ = np.linalg.qr(centred_ND.T @ (centred_ND @ basis_Dw))
    _, _, small = np.linalg.svd(centred_ND @ basis_Dw, full_matrices=False)
    axes_D2 = np.zeros((centred_ND.shape[1], 2), dtype=np.float32)
    axes_D2[:, : len(small[:2])] = basis_Dw @ small[:2].T
    axes_D2 *= np.sign(axes_D2[np.abs(axes_D2).argmax(axis=0), [0, 1]])
    return centred_ND @ axes_D2, (query_MD.astype(np.float32) - mean_D) @ axes_D2
