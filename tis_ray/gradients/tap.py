"""Taps on layers: stand-ins that collect per-example weight gradients during the backward pass.

A weight's gradient is a sum, over the tokens of a whole batch, of products of two things that a
backward pass holds anyway: a layer's input and the gradient of its output. A tap stands in for a
layer, computes the same output, and on the way back sums over the tokens of one example at a time.
So one pass over a batch gives every example's own gradient, and autograd never forms a weight
gradient. (Opacus, dattri and bergson rest on the same observation.)

`lora_tap` and `full_tap` decide which layers are tapped, and how. What all taps share is here: when
a parameter's block is complete, who gets it, and that none is missed.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tis_ray.batches.batch import Batch
from tis_ray.batches.segments import Segments
from tis_ray.errors import InputError

Sink = Callable[[str, Tensor], None]
"""Receives a parameter's name and its per-example gradients (E, *shape), once per parameter."""


class Pass:
    """One batch on its way through a tapped model, and what has been gathered from it so far.

    trainable: by name, the parameters whose blocks the sink will get.
    head, label_columns_EL: the output head sees only these positions of each example.
    dropout_seeds: one for each example, or None to leave LoRA dropout off.
    """

    def __init__(
        self,
        batch: Batch,
        sink: Sink,
        trainable: Mapping[str, nn.Parameter],
        head: nn.Module | None,
        label_columns_EL: Tensor,
        dropout_seeds: Sequence[int] | None = None,
    ) -> None:
        self.examples, self._segments = batch.examples, batch.segments
        self.tokens = batch.input_ids.shape[1]
        self._label_segments = batch.label_segments
        self.trainable, self.dropout_seeds = trainable, dropout_seeds
        self._sink = sink
        self.head_modules = set() if head is None else set(head.modules())
        self._label_columns_EL = label_columns_EL
        self._waiting = dict(trainable)
        self._gathered: dict[str, Tensor] = {}
        # Calls whose backward is still to come: several for a shared layer or a tied weight.
        self._open: Counter[str] = Counter()

    def call(self, tap: "Tap", *args: object, **kwargs: object) -> Tensor:
        """Run the tap's forward in place of its module's."""
        self._open.update(tap.names.values())
        return tap.forward(self, *args, **kwargs)

    def add(self, name: str, block_E___: Tensor) -> None:
        """Add what one call contributes to a parameter's block; the last call completes it."""
        earlier = self._gathered.pop(name, None)
        if earlier is not None:
            block_E___ = earlier.add_(block_E___)
        self._open[name] -= 1
        if self._open[name]:
            self._gathered[name] = block_E___
        else:
            self._hand_over(name, block_E___)

    def finish(self) -> None:
        """Hand over the blocks that backward did not complete: what was gathered of them, or zeros."""
        for name, parameter in list(self._waiting.items()):
            block = self._gathered.pop(name, None)
            if block is None:
                block = parameter.new_zeros((self.examples, *parameter.shape))
            self._hand_over(name, block)
            del block

    def positions(self, module: nn.Module) -> Tensor:
        """Return the token position of each input row of a module, (E, T), or (E, labels) at the head."""
        if module in self.head_modules:
            return self._label_columns_EL
        tokens = self.tokens if self._segments is None else self._segments.longest
        return torch.arange(tokens, device=self._label_columns_EL.device).expand(self.examples, -1)

    def by_example(self, module: nn.Module, rows: Tensor) -> Tensor:
        """Return a module's rows (..., D) with each example's in a block of its own: (E, T, D).

        Packed rows are filled up with zeros, which add nothing to a sum over tokens. (torch's
        grouped_mm needs no filling, but takes only bfloat16, and adapters are float32.)
        """
        segments = self._segments_at(module)
        if segments is None:
            return rows.reshape(self.examples, -1, rows.shape[-1])
        return segments.by_example(rows.reshape(-1, rows.shape[-1]))

    def as_rows(self, module: nn.Module, by_example_ETD: Tensor, shape: torch.Size) -> Tensor:
        """Undo `by_example`, for rows of this shape."""
        segments = self._segments_at(module)
        rows = by_example_ETD if segments is None else segments.end_to_end(by_example_ETD)
        return rows.reshape(shape)

    def check_rows(self, tap: "Tap", rows: torch.Size) -> None:
        """Raise InputError unless an input with these leading sizes goes example by example."""
        segments = self._segments_at(tap.module)
        if segments is None:
            by_example = len(rows) > 1 and rows[0] == self.examples
            fits = by_example or tuple(rows) == (self.examples * self.tokens,)
        else:
            fits = [size for size in rows if size != 1] in ([], [segments.rows])
            fits = fits and rows.numel() == segments.rows
        if not fits:
            packed = "" if segments is None else " in all, packed"
            raise InputError(
                f"module {tap.module_name!r} gets input rows of shape {tuple(rows)} for "
                f"{self.examples} examples of {self.tokens} tokens{packed}, so its rows cannot be "
                "separated by example; leave it out of the LoRA target_modules, or freeze it"
            )

    def _segments_at(self, module: nn.Module) -> Segments | None:
        return self._label_segments if module in self.head_modules else self._segments

    def _hand_over(self, name: str, block_E___: Tensor) -> None:
        del self._waiting[name]
        self._sink(name, block_E___)


class TapContext(Protocol):
    """What a tap's autograd function carries from its forward to its backward."""

    run: Pass

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]:
        """The tensors saved by forward."""

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """Whether each input of forward needs a gradient."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Save tensors for backward."""

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Declare inputs that forward has changed in place."""


@dataclass(frozen=True, eq=False)
class Tap(ABC):
    """Stands in for one layer.

    names: from the tap's word for each trainable weight of the layer to the sink's name for it.
    """

    module_name: str
    module: nn.Module
    names: Mapping[str, str]

    @abstractmethod
    def forward(self, run: Pass, *args: Any, **kwargs: Any) -> Tensor:
        """Return the module's output; its backward calls `run.add` once for each of `names`."""


@contextmanager
def tapped(taps: Sequence[Tap], run: Pass) -> Iterator[None]:
    """Within this context a backward pass hands each parameter's per-example gradients to the sink.

    The sink gets each parameter once: as soon as backward has left the last layer that uses it, or
    on leaving the context if backward never does.
    """
    # A `forward` set on the instance leaves the module its class, hooks and names.
    previous = [tap.module.__dict__.get("forward") for tap in taps]
    guards = [
        parameter.register_hook(partial(_refuse_gradient, name))
        for name, parameter in run.trainable.items()
    ]
    try:
        for tap in taps:
            tap.module.forward = partial(run.call, tap)
        yield
        run.finish()
    finally:
        for guard in guards:
            guard.remove()
        for tap, forward in zip(taps, previous, strict=True):
            if forward is None:
                tap.module.__dict__.pop("forward", None)
            else:
                tap.module.forward = forward


def token_products(left: Tensor, right: Tensor, examples: int) -> Tensor:
    """Return Σ_t left_t right_tᵀ within each example: (E, ..., p) and (E, ..., q) to (E, p, q)."""
    left_ETp = left.reshape(examples, -1, left.shape[-1])
    right_ETq = right.reshape(examples, -1, right.shape[-1])
    return torch.bmm(left_ETp.transpose(1, 2), right_ETq)


def _refuse_gradient(name: str, grad: Tensor | None) -> None:
    """Raise InputError if a tapped parameter gets a gradient: then something bypasses its tap."""
    if grad is not None:
        raise InputError(
            f"parameter {name!r} is used outside the layer that owns it, where its gradient cannot "
            "be separated by example; freeze it"
        )
