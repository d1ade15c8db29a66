"""The weights of warm-up checkpoints, from the learning rates that they were trained with."""

import math
from collections.abc import Iterable, Mapping

from tis_ray.errors import InputError

_EPOCH_SLACK = 1e-6
"""A log at the end of epoch t may say t plus a rounding error; it still belongs to epoch t."""


def learning_rate_weights(
    history: Mapping[str, object] | Iterable[tuple[float, float]],
) -> list[float]:
    """Return the weights of the checkpoints, one per epoch, summing to 1.

    The weight of epoch t is the mean of the learning rates logged in (t - 1, t], over the sum of
    these means (LESS, Xia et al. 2024, section 3.2: eta_t in the influence sum).

    history: a trainer state as `transformers` saves it (the entries of its `log_history` that have
        `epoch` and `learning_rate`), or pairs (epoch, learning rate).
    Raises InputError if nothing was logged, an epoch has no logged rate, a value is not a finite
    non-negative number, or all rates are zero.
    """
    by_epoch: dict[int, list[float]] = {}
    for epoch, rate in _logged_rates(history):
        if not (math.isfinite(epoch) and math.isfinite(rate) and epoch >= 0 and rate >= 0):
            raise InputError(
                f"trainer state: epoch {epoch} has learning rate {rate}; "
                "both must be finite and not negative"
            )
        by_epoch.setdefault(max(1, math.ceil(epoch - _EPOCH_SLACK)), []).append(rate)
    if not by_epoch:
        raise InputError(
            "trainer state: log_history has no entry with epoch and learning_rate; "
            "train with logging enabled"
        )
    for epoch in range(1, max(by_epoch) + 1):
        if epoch not in by_epoch:
            raise InputError(
                f"trainer state: no learning rate was logged in epoch {epoch}; "
                "log at least once per epoch (logging_steps)"
            )
    means = [math.fsum(by_epoch[epoch]) / len(by_epoch[epoch]) for epoch in sorted(by_epoch)]
    total = math.fsum(means)
    if total == 0:
        raise InputError(
            "trainer state: every logged learning rate is 0, so weights are undefined; train with "
            "a positive rate"
        )
    return [mean / total for mean in means]


def _logged_rates(
    history: Mapping[str, object] | Iterable[tuple[float, float]],
) -> list[tuple[float, float]]:
    if not isinstance(history, Mapping):
        return [(float(epoch), float(rate)) for epoch, rate in history]
    entries = history.get("log_history")
    if not isinstance(entries, list):
        raise InputError(
            "trainer state: log_history is missing or not a list; give a state as transformers saves it"
        )
    return [
        (float(entry["epoch"]), float(entry["learning_rate"]))
        for entry in entries
        if "epoch" in entry and "learning_rate" in entry
    ]
