"""A certificate of how far projected scores are from exact ones, without any exact score.

A sketch has two independent halves. With cos_h the cosine of half h alone, the score's error has
about the variance of D = sum_c w_c (cos0_c - cos1_c) / 2: the sum and the difference of two
independent errors vary alike. So D, which costs nothing, estimates the error sd of a score S.

What matters to a selector is the order of candidates within a query. An error that all candidates
of a query share changes no order, hence `noise_within_query`. What the rest does is predicted by
repeating it. Were the exact scores T, the scores would be S = T + e. T is unknown, but one can
have T' of the variance that T must have, and of a shape such that T' + e' with a new error e' is
distributed as S is. Then T' + e' relates to T' as S does to T, and the share of the top p of T'
that T' + e' finds is the predicted overlap.

The best e' at hand is D itself, and -D: independent of e, and alike in everything else. Errors of
similar candidates are similar, which moves a group up or down without reordering it; independent
errors of the same size would reorder more, so drawing them is pessimistic (on gradients of a real
model: predicted 0.82, measured 0.91). Without D they are drawn from a Gaussian.

With independent Gaussian errors and some thousands of columns the prediction is
within 0.03 of the truth where noise is up to half the spread, and within 0.1 where it equals the
spread, for scores with light or heavy tails and in clusters. The exception is scores that end
abruptly, such as uniform ones: for their top 1% it is up to 0.12 too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

SHARES = (0.01, 0.05, 0.10)

_CORRECTIONS = 3
_ERRORS = 4  # drawn for each correction
_QUERIES = 64  # worked on at once: sorting needs several copies


@dataclass(frozen=True)
class Certificate:
    """How far the scores of a query are from exact, as standard deviations of a score."""

    noise: float
    """Error of a score: root mean square of D over all queries and candidates."""
    noise_within_query: float
    """The same after each query's mean of D is taken off; this part alone can reorder candidates."""
    spread: float
    """How much scores differ among the candidates of a query, error included."""
    predicted_overlap: dict[str, float]
    """Share of a query's exact top p that its scores find, on average over queries, by p."""
    columns: int
    """Candidates that spread and overlap were computed on."""
    queries: int
    """Queries M."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def certificate(
    scores_Ms: np.ndarray,
    sum_M: np.ndarray,
    sum_squares_M: np.ndarray,
    count: int,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    draws: int = 8,
    noise_Ms: np.ndarray | None = None,
) -> Certificate:
    """Certify scores by a sample of their columns and the sums of D over all of them.

    scores_Ms: scores of M queries and s sampled candidates. sum_M and sum_squares_M: for each query
    the sums of D and of D² over `count` candidates. `shares`: the p of the top p, in (0, 1]; each
    is a key of `predicted_overlap`, such as "0.05". noise_Ms: D of the sample; without it errors
    are drawn `draws` times. Raises ValueError where there is no score or one is not finite.
    """
    if scores_Ms.size == 0 or count < 1:
        raise ValueError(f"no score to certify: sample {scores_Ms.shape}, {count} candidates")
    means_M = np.asarray(sum_M, np.float64) / count
    squares_M = np.asarray(sum_squares_M, np.float64) / count
    # Queries differ in noise, so each keeps its own.
    errors_M = np.maximum(squares_M - means_M**2, 0) * (count / max(count - 1, 1))
    columns = scores_Ms.shape[1]
    scores_Ms = _finite(scores_Ms, "scores")
    variances_M = scores_Ms.var(axis=1, ddof=min(1, columns - 1), dtype=np.float64)
    return Certificate(
        noise=float(np.sqrt(squares_M.mean())),
        noise_within_query=float(np.sqrt(errors_M.mean())),
        spread=float(np.sqrt(variances_M.mean())),
        predicted_overlap=_predicted(
            scores_Ms, variances_M, errors_M, shares, seed, draws, noise_Ms
        ),
        columns=columns,
        queries=len(scores_Ms),
    )


def top_overlap(scores_MN: np.ndarray, truth_MN: np.ndarray, share: float) -> float:
    """Return the share of each query's true top `share` that its scores find, averaged over queries.

    Equal values rank by lowest index. Raises ValueError where a value is not finite.
    """
    if scores_MN.shape != truth_MN.shape or scores_MN.size == 0:
        raise ValueError(
            f"scores {scores_MN.shape} and truth {truth_MN.shape} must match, not empty"
        )
    size = top_size(share, scores_MN.shape[1])
    found_MN = _top(_finite(scores_MN, "scores"), size)
    return float((found_MN & _top(_finite(truth_MN, "truth"), size)).sum() / (len(found_MN) * size))


def top_size(share: float, count: int) -> int:
    """Return how many of `count` candidates are the top `share`: rounded, at least 1."""
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1")
    return max(1, round(share * count))


def _predicted(
    scores_Ms: np.ndarray,
    variances_M: np.ndarray,
    errors_M: np.ndarray,
    shares: Sequence[float],
    seed: int,
    draws: int,
    noise_Ms: np.ndarray | None,
) -> dict[str, float]:
    """Return the mean overlap of the top of T' with that of T' + e', by share."""
    rng = np.random.default_rng(seed)
    queries, columns = scores_Ms.shape
    sizes = {f"{share:g}": top_size(share, columns) for share in shares}
    overlaps = {key: np.zeros(queries) for key in sizes}
    for start in range(0, queries, _QUERIES):
        block = slice(start, start + _QUERIES)
        sd_m1 = np.sqrt(errors_M[block])[:, None]
        exact_ms = _plausible(scores_Ms[block], variances_M[block], sd_m1, rng)
        if noise_Ms is None:
            errors = (sd_m1 * rng.standard_normal(exact_ms.shape) for _ in range(draws))
            repeats = draws
        else:
            # T' gets the order of S, so that similar candidates meet their own errors.
            ranks_ms = np.argsort(np.argsort(scores_Ms[block], axis=1, kind="stable"), axis=1)
            exact_ms = np.take_along_axis(exact_ms, ranks_ms, axis=1)
            own_ms = noise_Ms[block] - noise_Ms[block].mean(axis=1, keepdims=True, dtype=np.float64)
            errors, repeats = (sign * own_ms for sign in (1, -1)), 2
        tops = {key: _top(exact_ms, size) for key, size in sizes.items()}
        for error_ms in errors:
            for key, size in sizes.items():
                found_m = (tops[key] & _top(exact_ms + error_ms, size)).sum(axis=1)
                overlaps[key][block] += found_m / (size * repeats)
    # Where noise explains all of the spread, nothing is known of T: its top is found by chance.
    chance_M = (errors_M > 0) & (errors_M >= variances_M)
    return {
        key: float(np.where(chance_M, size / columns, overlaps[key]).mean())
        for key, size in sizes.items()
    }


def _plausible(
    scores_ms: np.ndarray, variances_m: np.ndarray, sd_m1: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return T' (m, s), sorted: what exact scores could be if the scores have an error of `sd_m1`.

    It starts from the scores, shrunk to the variance that is not error. Three times, errors are
    added, and what the sums' quantiles are off from those of the scores is taken off (van Cittert's
    deconvolution, on quantiles). Without this the top of scores with tails looks too noisy, and
    that of scores without tails too clear, by 0.2 and more where noise is half the spread.
    """
    goal_ms = np.sort(scores_ms.astype(np.float64), axis=1)
    goal_ms -= goal_ms.mean(axis=1, keepdims=True)
    deviation_m1 = np.sqrt(np.maximum(variances_m[:, None] - sd_m1**2, 0))
    exact_ms = _scaled(goal_ms, deviation_m1)
    for _ in range(_CORRECTIONS):
        correction_ms = goal_ms.copy()
        for _ in range(_ERRORS):
            noisy_ms = exact_ms + sd_m1 * rng.standard_normal(goal_ms.shape)
            correction_ms -= np.sort(noisy_ms, axis=1) / _ERRORS
        exact_ms = _scaled(np.sort(exact_ms + correction_ms, axis=1), deviation_m1)
    return exact_ms


def _scaled(values_ms: np.ndarray, deviation_m1: np.ndarray) -> np.ndarray:
    values_ms = values_ms - values_ms.mean(axis=1, keepdims=True)
    found_m1 = values_ms.std(axis=1, ddof=min(1, values_ms.shape[1] - 1), keepdims=True)
    return values_ms * (deviation_m1 / np.where(found_m1 > 0, found_m1, 1))


def _top(values_MN: np.ndarray, size: int) -> np.ndarray:
    """Return whether each value is among its row's `size` largest (M, N); ties by lowest index."""
    place = values_MN.shape[1] - size
    last_M1 = np.partition(values_MN, place, axis=1)[:, place, None]
    above_MN, equal_MN = values_MN > last_M1, values_MN == last_M1
    wanted_M1 = size - above_MN.sum(axis=1, keepdims=True)
    return above_MN | (equal_MN & (np.cumsum(equal_MN, axis=1) <= wanted_M1))


def _finite(values: np.ndarray, name: str) -> np.ndarray:
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        raise ValueError(f"{name} of query {int(broken.argmax())} are not finite")
    return values
