"""Dropout masks that are functions of the example, not of a random stream.

The paper makes its features with LoRA dropout on, from a generator seeded once per process: a
row's feature then depends on the rows before it and on the shard, and no re-run reproduces it. Here
a mask is a pure function of (the example's seed, module name, token position, feature), so it is the
same alone, in any batch, order or padding, on any device and after any restart.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tis_ray.gradients.hashing import digest_words, grid_words

DROPOUT_VERSION = "tis/dropout/v1"
"""Must change when the masks do: part of the fingerprint of features made with seeded dropout."""

# Words that exist at once: 2 MiB stay in a CPU's cache, 128 MiB keep another device busy.
_CHUNK_CPU, _CHUNK_OTHER = 1 << 18, 1 << 24


def keep_mask(
    seeds: Sequence[int], module_name: str, positions_ET: Tensor, features: int, rate: float
) -> Tensor:
    """Return which inputs of a layer survive dropout, (E, T, features) bool; True with chance 1 - rate.

    keep(e, t, f) = word(position of t, f) >= rate · 2^32, the word seeded by the digest of
    (seed of e, module name); see `grid_words`.

    seeds: any integers, one for each example. positions_ET: int64, token positions.
    """
    examples, tokens = positions_ET.shape
    digests = [digest_words(f"{DROPOUT_VERSION}|{seed}|{module_name}") for seed in seeds]
    words_E4 = torch.tensor(digests, dtype=torch.int64, device=positions_ET.device)
    first_E1, second_E1 = words_E4[:, :1], words_E4[:, 1:2]
    columns = torch.arange(features, device=positions_ET.device)
    threshold = round(rate * 2**32)
    keep = torch.empty(examples, tokens, features, dtype=torch.bool, device=positions_ET.device)
    chunk = _CHUNK_CPU if positions_ET.device.type == "cpu" else _CHUNK_OTHER
    step = max(1, chunk // (examples * features))
    for start in range(0, tokens, step):
        rows = positions_ET[:, start : start + step]
        keep[:, start : start + step] = grid_words(rows, columns, first_E1, second_E1) >= threshold
    return keep
