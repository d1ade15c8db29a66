"""Adam's moments at an adapter whose training is not at hand: one pass over rows, in which no weight moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from peft import PeftModel

from tis_ray.batches import Example, needed_length, packs
from tis_ray.data import count_response_tokens
from tis_ray.errors import InputError
from tis_ray.gradients import MomentEstimate
from tis_ray.models.lora import without_wrapper
from tis_ray.settings import TrainingConfig
from tis_ray.training.checkpoints import Moments
from tis_ray.training.loop import batch_backward
from tis_ray.training.master_weights import Weights


def estimated_moments(
    model: PeftModel,
    examples: Sequence[Example],
    config: TrainingConfig,
    on_step: Callable[[int, int], None] = lambda step, total: None,
) -> Moments:
    """Return estimates of Adam's moments (see `MomentEstimate`) by parameter name, on the CPU.

    The mini-batches are those of a warm-up's epoch in the order of `examples`: `batch_size` rows each,
    the gradient of the mean over their response tokens, clipped to `max_grad_norm`; without dropout.
    Raises InputError for a loss or gradient that is not finite.
    """
    model.eval()
    weights, base = Weights(model), without_wrapper(model)
    device = next(iter(weights.tensors.values())).device
    longest = max(needed_length(example, index) for index, example in enumerate(examples))
    packed = packs(config.packed, base, longest, device.type, training=True)
    estimate = MomentEstimate()
    starts = range(0, len(examples), config.batch_size)
    for start in starts:
        batch = list(examples[start : start + config.batch_size])
        tokens = sum(count_response_tokens(example["labels"]) for example in batch)
        loss = batch_backward(base, batch, tokens, config.micro_tokens, packed, sharded=False)
        norm = weights.clip(config.max_grad_norm)
        if not torch.isfinite(loss + norm):
            raise InputError(
                f"moments: at the adapter as it was given the loss is {loss:g} and its gradient's norm "
                f"{norm:g}; check that the adapter belongs to this model"
            )
        grads = {name: t.grad for name, t in weights.tensors.items() if t.grad is not None}
        estimate.add(grads)
        for grad in grads.values():
            grad.zero_()
        on_step(estimate.steps, len(starts))
    weights.close()
    first, second = estimate.moments()
    return (
        {name: moment.cpu() for name, moment in first.items()},
        {name: moment.cpu() for name, moment in second.items()},
    )
