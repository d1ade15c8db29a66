"""Per-example gradients of a model: one forward and one backward pass for a whole batch.

An example's loss is the mean cross-entropy over its own label tokens (LESS, Xia et al. 2024), so
each example's gradient is what a pass over it alone would give, whatever else is in the batch.
The result is deterministic: the model is in evaluation mode, and LoRA dropout is either off or drawn
from a seed that belongs to the example.
"""

from collections.abc import Sequence

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from tis_ray.batches.batch import Batch, Example, collate, needed_length, plan_batches
from tis_ray.batches.batch_losses import batch_losses
from tis_ray.batches.modes import evaluation_mode
from tis_ray.batches.packing import check_packing
from tis_ray.errors import InputError
from tis_ray.gradients.full_tap import full_taps
from tis_ray.gradients.lora_tap import lora_taps
from tis_ray.gradients.tap import Pass, Sink, tapped


class PerExample:
    """A model whose passes give every example's own gradients.

    What does not change from batch to batch is found out once: its trainable parameters and the taps on
    its layers. The weights must stay as they are while it is in use; after a change, make a new one.

    model: a causal language model with one plain LoRA adapter (a PeftModel), or a `transformers`
        model whose trainable parameters belong to linear layers, embeddings and norms: all of them,
        or those that are not frozen.
    Raises InputError, naming the parameter or module, for any other model.
    """

    def __init__(self, model: PeftModel | PreTrainedModel) -> None:
        self.model = model
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.base: PreTrainedModel
        if isinstance(model, PeftModel):
            self.base, self.taps = model.get_base_model(), lora_taps(model, self.trainable)
        else:
            self.base, self.taps = model, full_taps(model, self.trainable)

    def backward(
        self, batch: Batch, sink: Sink, dropout_seeds: Sequence[int] | None = None
    ) -> Tensor:
        """Stream every trainable parameter's per-example gradients to `sink`; return the losses.

        `sink(name, block)` is called exactly once for each trainable parameter, in the order in which
        backward reaches them, with its name in `model.named_parameters()` and a block (E, *parameter
        shape) in the parameter's dtype. Nothing holds the block afterwards, so memory stays at that of
        one layer. A sink may change the block in place; what it raises reaches the caller. A weight
        that several layers share comes once, as their sum.

        dropout_seeds: one integer for each example switches LoRA dropout on, at the adapter's own rate
            and with a mask that depends only on the example's seed (see `keep_mask`). None: off.

        A packed `batch` gives the same gradients (LoRA only, see `check_packing`).

        Returns (E,) float32: each example's mean loss over its label tokens, in nats, equal to what
        `transformers` computes for it alone. A non-finite example leaves the others untouched. The
        model's weights, `.grad` fields and training modes are restored afterwards.
        Raises InputError if the model passes no gradient, or if the number of seeds is not the number
        of examples. On a GPU nothing here waits for it: what goes wrong there may show later.
        """
        model, base = self.model, self.base
        adapted = isinstance(model, PeftModel)
        if dropout_seeds is not None:
            _check_seeds(dropout_seeds, batch.examples)
            if not adapted:
                raise InputError(
                    f"dropout_seeds are given, but model {type(model).__name__} has no LoRA adapter, "
                    "and only LoRA dropout can be seeded by example; leave them out"
                )
        if batch.segments is not None:
            if not adapted:
                raise InputError(
                    f"model {type(model).__name__} has no LoRA adapter, and packed batches work only "
                    "for LoRA gradients; collate without `packed`"
                )
            check_packing(base, batch.segments.longest)  # before the taps are in place
        batch = batch.to(base.get_input_embeddings().weight.device)
        head = base.get_output_embeddings()
        run = Pass(batch, sink, self.trainable, head, batch.label_columns, dropout_seeds)
        recording = (torch.inference_mode(False), torch.enable_grad())
        with evaluation_mode(model), recording[0], recording[1], tapped(self.taps, run):
            # A tapped head must see rows grouped by example (as packed ones are anyway).
            head_is_tapped = any(tap.module in run.head_modules for tap in self.taps)
            losses_E = batch_losses(base, batch, by_example=head_is_tapped)
            if not losses_E.requires_grad:
                raise InputError(
                    f"model {type(base).__name__} passes no gradient from its losses to what is "
                    "trained; use another model, or a representation without gradients"
                )
            # The losses of different examples share no activation, so the gradient of their sum holds
            # each example's own gradient in its own rows (and a NaN stays in the rows it came from).
            losses_E.sum().backward()
        return losses_E.detach()


def backward_per_example(
    model: PeftModel | PreTrainedModel,
    batch: Batch,
    sink: Sink,
    dropout_seeds: Sequence[int] | None = None,
) -> Tensor:
    """Return `PerExample(model).backward(batch, sink, dropout_seeds)`: one batch of a model."""
    return PerExample(model).backward(batch, sink, dropout_seeds)


def per_example_gradients(
    model: PeftModel | PreTrainedModel,
    examples: Sequence[Example],
    batch_size: int | None = None,
    token_budget: int = 2048,
    dropout_seeds: Sequence[int] | None = None,
    packed: bool = False,
) -> Tensor:
    """Return the gradient of every example's loss, (E, P) float32, rows in the order of `examples`.

    Columns are the trainable parameters, flattened and laid end to end in `named_parameters`
    order. For small E x P; `backward_per_example` streams the same blocks without this buffer.

    batch_size, token_budget, packed: see `plan_batches`; they change memory and speed but not the
        result (beyond the order of floating-point sums, about 1e-6 relative).
    dropout_seeds: None, or one integer for each example, as for `backward_per_example`.
    Raises InputError, naming the example by its index, if one has no label token that enters the
    loss, and as `backward_per_example` does.
    """
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    offsets: dict[str, int] = {}
    total = 0
    for name, parameter in trainable:
        offsets[name] = total
        total += parameter.numel()
    if dropout_seeds is not None:
        _check_seeds(dropout_seeds, len(examples))
    lengths = [needed_length(example, index) for index, example in enumerate(examples)]
    grads_EP = torch.empty(len(examples), total, dtype=torch.float32)
    passes = PerExample(model)
    for rows in plan_batches(lengths, batch_size, token_budget, packed):

        def store(name: str, block: Tensor, rows: list[int] = rows) -> None:
            flat = block.reshape(len(rows), -1)
            grads_EP[rows, offsets[name] : offsets[name] + flat.shape[1]] = flat.to("cpu").float()

        seeds = None if dropout_seeds is None else [dropout_seeds[row] for row in rows]
        batch = collate([examples[row] for row in rows], packed=packed)
        passes.backward(batch, store, seeds)
    return grads_EP


def check_per_example(model: PeftModel) -> None:
    """Raise InputError if per-example gradients of this model cannot be taken, found by taking some.

    Where a layer's rows come from (experts see only some tokens) shows only when the model runs, and
    that should not be after hours of training.
    """
    count = model.get_input_embeddings().weight.shape[0]
    ids = [count // 4, count // 2, 3 * count // 4]
    examples = [{"input_ids": row, "labels": row} for row in (ids, ids[:2])]
    backward_per_example(model, collate(examples), lambda name, block: None)


def _check_seeds(dropout_seeds: Sequence[int], examples: int) -> None:
    if len(dropout_seeds) != examples:
        raise InputError(
            f"{len(dropout_seeds)} dropout_seeds for {examples} examples; "
            "give one integer for each example, or None to leave dropout off"
        )
