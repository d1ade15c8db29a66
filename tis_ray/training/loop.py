"""The training loop and its learning-rate schedule, for LESS's warm-up and for fine-tuning.

The loop keeps no hidden state: the order of an epoch and the dropout masks of a step are functions
of (seed, epoch, step), so a run that continues from an epoch's checkpoint ends in the same weights
as one that was never stopped.

A step's gradient is that of the mean over the response tokens of its whole batch. The loss of each
pass is divided by that number of tokens and gradients are summed, so it does not matter how the
batch is cut into passes and over workers. (An average over workers, as in DistributedDataParallel,
would give more weight to the tokens of a worker that has few of them.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from tis_ray.batches import Example, batch_losses, collate, needed_length, packs, plan_batches
from tis_ray.data import count_response_tokens
from tis_ray.models.lora import CausalLM, without_wrapper
from tis_ray.settings import TrainingConfig
from tis_ray.storage import AnyPlace, place
from tis_ray.training.checkpoints import (
    Checkpoint,
    checkpoints,
    restore_checkpoint,
    save_checkpoint,
)
from tis_ray.training.master_weights import Weights


class UnmovedError(RuntimeError):
    """Training has changed no weight: the result is the model that it began with."""


def train(
    model: CausalLM,
    examples: Sequence[Example],
    config: TrainingConfig,
    *,
    seed: int,
    folder: AnyPlace,
    keep_all: bool = False,
    on_step: Callable[[int, int], None] = lambda step, total: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> list[Checkpoint]:
    """Train what is trainable in `model`, continuing from the newest checkpoint in `folder`.

    model: with adapters attached, or trainable as a whole, and then perhaps sharded (`shard_model`).
    A step takes `batch_size` examples (the last batch of an epoch may be smaller). With
    torch.distributed initialised, every worker must call this with the same examples, and takes its
    share of each batch. Returns the kept checkpoints, oldest first.

    Raises FloatingPointError for a loss that is not finite, and UnmovedError if the trained weights
    are those that training began with.
    """
    weights = Weights(model)
    sums_before = weights.sums()
    device = next(iter(weights.tensors.values())).device
    optimizer = torch.optim.AdamW(
        weights.tensors.values(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps_per_epoch = math.ceil(len(examples) / config.batch_size)
    total_steps = steps_per_epoch * config.epochs
    warmup_steps = math.ceil(config.warmup_ratio * total_steps)
    earlier = checkpoints(folder)
    steps: list[dict[str, float]] = []
    if earlier:
        steps = restore_checkpoint(earlier[-1], model, weights, optimizer)
    model.train()
    base = without_wrapper(model)
    longest = max(needed_length(example, index) for index, example in enumerate(examples))
    packed = packs(config.packed, base, longest, device.type, training=True)
    rank = dist.get_rank() if dist.is_initialized() else 0
    for epoch in range(earlier[-1].epoch if earlier else 0, config.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(examples))
        for start in range(0, len(order), config.batch_size):
            batch = [examples[i] for i in order[start : start + config.batch_size]]
            torch.manual_seed(
                int(np.random.SeedSequence([seed, len(steps), rank]).generate_state(1)[0])
            )
            rate = config.learning_rate * linear_schedule(len(steps), warmup_steps, total_steps)
            optimizer.param_groups[0]["lr"] = rate
            tokens = sum(count_response_tokens(example["labels"]) for example in batch)
            loss = batch_backward(base, batch, tokens, config.micro_tokens, packed, weights.sharded)
            weights.add_up()
            norm = weights.clip(config.max_grad_norm)
            if not torch.isfinite(loss + norm):
                raise FloatingPointError(
                    f"step {len(steps) + 1} of {total_steps}: the loss is {loss:g} and the norm of "
                    f"its gradient {norm:g}; lower learning_rate (now {rate:g}), or check that the "
                    "base model gives finite losses"
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            weights.publish()
            steps.append(
                {
                    "step": len(steps) + 1,
                    "epoch": epoch + 1,
                    "learning_rate": rate,
                    "loss": loss.item(),
                    "tokens": tokens,
                }
            )
            on_step(len(steps), total_steps)
        save_checkpoint(place(folder), epoch + 1, model, weights, optimizer, steps, keep_all)
        recent = steps[-steps_per_epoch:]
        on_epoch({"epoch": epoch + 1, "loss": float(np.mean([s["loss"] for s in recent]))})
    if weights.sums() == sums_before:
        raise UnmovedError(
            f"no weight moved in {len(steps)} step(s), with learning rates up to "
            f"{max(step['learning_rate'] for step in steps):g}; raise learning_rate (now "
            f"{config.learning_rate:g}), or check that the rows have gradients"
        )
    weights.close()
    model.eval()
    return checkpoints(folder)


def linear_schedule(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the peak learning rate at `step`, from 0: up in the warm-up, then down to 0.

    A single step has the peak rate: the first step of a warm-up has rate 0 and would train nothing.
    """
    if total_steps == 1:
        return 1.0
    if step < warmup_steps:
        return step / warmup_steps
    return (total_steps - step) / max(1, total_steps - warmup_steps)


def batch_backward(
    base: PreTrainedModel,
    batch: list[Example],
    tokens: int,
    micro_tokens: int,
    packed: bool,
    sharded: bool,
) -> torch.Tensor:
    """Add the gradients of this worker's share of a batch; return the loss of the whole batch.

    tokens: response tokens of the whole batch.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    # Examples of similar length go to different workers, so that all have about the same work.
    by_length = sorted(batch, key=needed_length)
    plans = []
    for share in (by_length[r::world] for r in range(world)):
        lengths = [needed_length(example) for example in share]
        planned = plan_batches(lengths, token_budget=micro_tokens, packed=packed)
        plans.append([[share[i] for i in members] for members in planned])
    passes = plans[rank]
    device = next(base.parameters()).device
    loss = torch.zeros((), device=device)
    # Workers that share the weights pass through each layer together: one with fewer passes than
    # another joins in with passes that count nothing. Their gradients are averaged, not summed.
    idle = max(map(len, plans)) - len(passes) if sharded else 0
    for turn, members in enumerate([*passes, *[by_length[:1]] * idle]):
        micro = collate(members, packed=packed).to(device)
        part = (batch_losses(base, micro) * micro.label_counts).sum() / tokens
        part = part if turn < len(passes) else 0 * part
        (part * world if sharded else part).backward()
        loss += part.detach()
    if world > 1:
        dist.all_reduce(loss)
    return loss
