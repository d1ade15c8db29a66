"""The losses of the labels of a query or test set (paper section 4, "query loss")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tis_ray.batches import Example, batch_losses, collate, needed_length, plan_batches
from tis_ray.models.lora import CausalLM, without_wrapper


@torch.inference_mode()
def example_losses(
    model: CausalLM, examples: Sequence[Example], token_budget: int = 4096
) -> np.ndarray:
    """Return each example's mean cross-entropy over its own label tokens, (E,) float64.

    The paper's query loss is the unweighted mean of these over the query set.
    """
    model.eval()
    base = without_wrapper(model)
    device = next(model.parameters()).device
    losses_E = np.zeros(len(examples))
    lengths = [needed_length(example, index) for index, example in enumerate(examples)]
    for members in plan_batches(lengths, token_budget=token_budget):
        batch = collate([examples[i] for i in members]).to(device)
        losses_E[members] = batch_losses(base, batch).cpu().numpy()
    return losses_E
