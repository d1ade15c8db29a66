"""The features of RDS+: position-weighted means of a model's last hidden states (Ivison et al. 2025).

With h_i the last hidden state of token i of L (after the final norm, as `transformers` returns it),
a row's feature is the direction of

    Σ w_i h_i,   w_i = i / Σ j   over i, j = 1..L,

over all of its tokens, including prompt and template: in a causal model later tokens have read more.
The model is the base model; nothing is trained first. Both sides are treated alike (paper section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tis_ray.batches import own_rotary, plan_batches
from tis_ray.batches.out_of_memory import in_halves
from tis_ray.errors import InputError
from tis_ray.gradients import unit_rows, unusable_rows
from tis_ray.models.loading import load_model
from tis_ray.representations.spec import Features
from tis_ray.settings import BatchConfig, ModelConfig

if TYPE_CHECKING:
    from tis_ray.data import StoredRow


class Rds:
    """Runs only the decoder: no output head, and so no logits."""

    def __init__(self, model: ModelConfig, batch: BatchConfig, device: str) -> None:
        self.batch, self.device = batch, device
        base = load_model(model, device)
        self.decoder = base.base_model
        if self.decoder is base or base.get_output_embeddings() is None:
            raise InputError(
                f"representation: rds needs a causal language model with a decoder and an output "
                f"head; model {type(base).__name__} is not one"
            )
        # Not always the config's hidden size, nor what the head reads: OPT and RemBERT project.
        self.width = len(self._pooled([[0]])[0])

    def features(self, rows: list[StoredRow], side: str) -> Features:
        """Return unit features (E, 1, K), where K is the width of the model's last hidden state."""
        pooled_EK = torch.zeros(len(rows), self.width)

        def pool(members: list[int]) -> None:
            pooled_EK[members] = self._pooled([rows[i]["input_ids"] for i in members]).cpu()

        lengths = [len(row["input_ids"]) for row in rows]
        for members in plan_batches(lengths, self.batch.examples, self.batch.tokens):
            in_halves(members, pool)
        unusable = {row: _reason(pooled_EK[row]) for row in unusable_rows(pooled_EK)}
        pooled_EK[list(unusable)] = 1.0
        values_EK: np.ndarray = unit_rows(pooled_EK).numpy()
        values_EK[list(unusable)] = 0.0
        return Features(values_EK[:, None], unusable, {})

    @torch.inference_mode()
    def _pooled(self, examples: Sequence[Sequence[int]]) -> Tensor:
        """Return the weighted means (E, K) float32 of one batch."""
        # A short row is filled up with its own first token. No token attends to a later one, but a
        # pad token whose embedding is NaN would still get through attention (0 times NaN).
        longest = max(map(len, examples))
        ids_ET = [[*ids, *[ids[0]] * (longest - len(ids))] for ids in examples]
        tokens_ET = torch.tensor(ids_ET, device=self.device)
        with own_rotary(self.decoder, [len(ids) for ids in examples]):
            hidden_ETK = self.decoder(
                input_ids=tokens_ET, use_cache=False, return_dict=True
            ).last_hidden_state
        # Row by row: padding is never read, and only one row at a time exists in float32.
        return torch.stack(
            [
                _weights(len(ids), hidden_ETK.device) @ hidden_TK[: len(ids)].float()
                for ids, hidden_TK in zip(examples, hidden_ETK, strict=True)
            ]
        )


def _weights(length: int, device: torch.device) -> Tensor:
    """Return i / Σ j for i, j = 1..length, (length,) float32."""
    positions_T = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    return positions_T / positions_T.sum()


def _reason(pooled_K: Tensor) -> str:
    finite = bool(torch.isfinite(pooled_K).all())
    return "zero_hidden_state" if finite else "non_finite_hidden_state"
