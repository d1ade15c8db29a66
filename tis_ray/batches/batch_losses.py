"""The loss of each example in a batch: cross-entropy of its labels, with logits only where needed.

Most positions of a batch are prompt or padding. Running the vocabulary matrix only on the positions
that predict a label gives the same numbers and saves the largest activation of a small model. One
function serves per-example gradients, training and evaluation, so that a loss is always the same
loss.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from tis_ray.batches.batch import IGNORED, Batch
from tis_ray.batches.head import before_head
from tis_ray.batches.packing import packed_attention
from tis_ray.batches.rotary import own_rotary
from tis_ray.errors import InputError


def batch_losses(base: PreTrainedModel, batch: Batch, by_example: bool = False) -> Tensor:
    """Return the mean label cross-entropy of each example, (E,) float32 in nats, differentiable.

    base: a causal language model, in whatever mode it is (adapters injected into it take part, and
        so does dropout while it trains); `batch` must be on its device.
    by_example: keep the head's input rows grouped by example, (E, most labels, width) instead of
        (1, labels, width). Needed when something looks at the head example by example. (The rows of
        a packed batch lie end to end there as everywhere.)

    Raises InputError if the model has no output head, or does not call it once for all tokens, and
    as `check_packing` does if the batch is packed.
    """
    segments = batch.segments
    if by_example and segments is None:
        columns = batch.label_columns
        rows = torch.arange(batch.examples, device=columns.device)[:, None].expand_as(columns)
    else:
        flat_rows, flat_columns = batch.label_places
        rows, columns = flat_rows[None], flat_columns[None]
    apart = nullcontext() if segments is None else packed_attention(base, segments)
    own_lengths = own_rotary(base, batch.lengths, segments)
    with apart, own_lengths, _hidden_states_at(base, batch.input_ids.shape, rows, columns):
        # No attention mask: a causal model sees nothing of the padding on the right.
        logits = base(**batch.inputs, use_cache=False, return_dict=True).logits
    token_losses = functional.cross_entropy(
        logits.float().flatten(0, 1),
        batch.targets[rows, columns].flatten(),
        ignore_index=IGNORED,
        reduction="none",
    )
    tokens = batch.input_ids.shape[1]
    if segments is not None:  # from a token's place in the row to its example and its place there
        rows, columns = segments.examples_R[columns], segments.positions_R[columns]
        tokens = segments.longest
    spread_ET = token_losses.new_zeros(batch.examples, tokens)
    spread_ET = spread_ET.index_put((rows, columns), token_losses.view(rows.shape))
    return spread_ET.sum(dim=1) / batch.label_counts


@contextmanager
def _hidden_states_at(
    base: PreTrainedModel, tokens: torch.Size, rows: Tensor, columns: Tensor
) -> Iterator[None]:
    """Let the model compute logits only at these (row, column) positions.

    The hidden states are cut on their way into the head, so whatever the model does around it
    (scaling, soft-capping) stays its own code. On leaving, the model must have called its head once.
    """
    calls = 0

    def cut(hidden: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if hidden.shape[:-1] != tokens:
            raise InputError(
                f"model {type(base).__name__} gives its output head rows of shape "
                f"{tuple(hidden.shape[:-1])} for tokens of shape {tuple(tokens)}; only causal language "
                "models that predict one token from each can be used"
            )
        return hidden[rows, columns]

    with before_head(base, cut):
        yield
    if calls != 1:
        raise InputError(
            f"model {type(base).__name__} calls its output head {calls} times in a pass; only causal "
            "language models that call it once can be used"
        )
