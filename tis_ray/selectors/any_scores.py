"""Scores in whatever form a caller has them, as a matrix that selectors take."""

from __future__ import annotations

from contextlib import suppress
from pathlib import PurePath
from typing import Any

import numpy as np

from tis_ray.errors import InputError
from tis_ray.selectors.ordering import Indices, Scores, checked_shape

BY_CANDIDATE = ("features", "lengths")
"""Parameters of selectors that have an entry for each candidate."""


def as_scores(given: object) -> tuple[Scores, Indices | None]:
    """Return scores_MN, float32 or float64, and the candidates its columns are, where some have no score.

    given: an array, a list of lists, a DataFrame, a torch tensor on any device, or a masked array, in which
        a candidate has no score if the mask hides it for any query. float16, bfloat16 and integers are
        converted. Raises InputError if it is no matrix, or if no candidate has a score.
    """
    array = _as_array(given)
    if array.ndim == 2 and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    elif array.ndim == 2 and array.dtype == np.float16:
        array = array.astype(np.float32)
    checked_shape(array.shape, array.dtype)
    if not isinstance(array, np.ma.MaskedArray):
        return array, None
    hidden_N = np.ma.getmaskarray(array).any(axis=0)
    if not hidden_N.any():
        return array.data, None
    known = np.flatnonzero(~hidden_N)
    if not len(known):
        raise InputError(
            "scores: the mask hides a score of every candidate; True in a mask means that it is missing"
        )
    return np.ascontiguousarray(array.data[:, known]), known


def _as_array(given: Any) -> np.ndarray:
    if isinstance(given, str | PurePath):
        raise InputError(
            f"scores: found the name of a file, {str(given)!r}; give the array in it (np.load), or use "
            "`tis-ray select --scores`"
        )
    if hasattr(given, "detach"):  # a torch tensor; torch itself is not imported here
        given = given.detach().cpu()
        given = given.float() if "bfloat16" in str(given.dtype) else given
        return np.asarray(given.numpy())
    if hasattr(given, "to_numpy"):  # a DataFrame, perhaps of nullable numbers
        given = given.to_numpy()
        if given.dtype == object:
            with suppress(TypeError, ValueError):
                given = given.astype(np.float64)
    try:
        return np.asanyarray(given)
    except ValueError:
        raise InputError(
            "scores: the lists differ in length; give one for each query, all with one score for each candidate"
        ) from None


def as_vectors(given: object) -> object:
    """Return features (N, D) as an array; what reads its own `rows` is left as it is."""
    return given if hasattr(given, "rows") or isinstance(given, np.ndarray) else _as_array(given)
