"""Taps on a model's own layers: linear ones, embeddings, and layers that scale by a vector (norms).

For a linear layer y = W x + b and an embedding y = W[id], an example's weight gradients are

    dW = Σ_t dy_t x_tᵀ      db = Σ_t dy_t        and        dW[i] = Σ_t [id_t = i] dy_t.

Norms come in too many variants for a formula (weight, 1 + weight, in float32 or not). Instead, each
example goes through the layer with its own copy of the vector (in one pass for all, by `vmap`), and
the gradient of a copy is that example's gradient, whatever the layer computes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from tis_ray.errors import InputError
from tis_ray.gradients.tap import Pass, Tap, TapContext, token_products


def full_taps(model: nn.Module, trainable: Mapping[str, nn.Parameter]) -> list[Tap]:
    """Return taps on the layers that own the model's trainable parameters.

    Raises InputError, naming the parameter and its module, for a parameter that belongs to neither
    a linear layer nor an embedding and is not a vector; for a model without trainable parameters;
    and for one that is not a `transformers` model.
    """
    if not isinstance(model, PreTrainedModel):
        raise InputError(
            f"model is a {type(model).__name__}; per-example gradients need a transformers causal "
            "language model: load one with AutoModelForCausalLM, with or without an adapter"
        )
    if not trainable:
        raise InputError(
            f"model is a {type(model).__name__} without trainable parameters or an adapter; call "
            "requires_grad_(True) on the parameters whose gradients you want, or wrap it with "
            "peft.get_peft_model"
        )
    names = {id(parameter): name for name, parameter in trainable.items()}
    taps = []
    for module_name, module in model.named_modules():
        parameters = module.named_parameters(recurse=False)
        own = {key: names[id(p)] for key, p in parameters if id(p) in names}
        if own:
            taps.append(_tap(module_name, module, own))
    return taps


def _tap(module_name: str, module: nn.Module, own: dict[str, str]) -> Tap:
    # Exactly these classes: their quantised, scaled and parallel variants compute something else.
    if type(module) is nn.Linear:
        return LinearTap(module_name, module, own)
    if type(module) is nn.Embedding and module.max_norm is None and not module.scale_grad_by_freq:
        return EmbeddingTap(module_name, module, own)
    is_leaf = next(module.children(), None) is None
    if is_leaf and all(module.get_parameter(key).dim() == 1 for key in own):
        return VectorTap(module_name, module, own, module.forward)
    raise InputError(
        f"parameter {next(iter(own.values()))!r} is trainable and belongs to module "
        f"{module_name!r}, a {type(module).__name__}; only linear layers, embeddings and vectors such "
        "as a norm's weight have per-example gradients: freeze it, or train LoRA instead"
    )


class LinearTap(Tap):
    """Stands in for a linear layer; `names` has "weight" and "bias", or the one that is trained."""

    def forward(self, run: Pass, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return the layer's output."""
        run.check_rows(self, x.shape[:-1])
        weight, bias = self.module.weight, self.module.bias
        result: Tensor = _Linear.apply(x, weight, bias, self.names, run)
        return result


class _LinearContext(TapContext, Protocol):
    names: Mapping[str, str]


class _Linear(torch.autograd.Function):
    """`W x + b`; W and b are inputs so that autograd calls backward, but get no gradient from it."""

    @staticmethod
    def forward(
        ctx: _LinearContext,
        x: Tensor,
        w: Tensor,
        bias: Tensor | None,
        names: Mapping[str, str],
        run: Pass,
    ) -> Tensor:
        ctx.save_for_backward(x if "weight" in names else None, w)
        ctx.names, ctx.run = names, run
        return functional.linear(x, w, bias)

    @staticmethod
    def backward(ctx: _LinearContext, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        names, run = ctx.names, ctx.run
        dy = grads[0]
        if "weight" in names:
            run.add(names["weight"], token_products(dy, x, run.examples))
        if "bias" in names:
            run.add(names["bias"], dy.reshape(run.examples, -1, dy.shape[-1]).sum(dim=1))
        dx = dy @ w if ctx.needs_input_grad[0] else None
        return dx, None, None, None, None


class EmbeddingTap(Tap):
    """Stands in for an embedding; `names` has "weight"."""

    def forward(self, run: Pass, ids: Tensor) -> Tensor:  # type: ignore[override]
        """Return the rows of `ids`."""
        if ids.dim() > 1 and ids.shape[0] == 1:
            # Positions are looked up once for all examples, but here each example needs its own.
            ids = ids.expand(run.examples, *ids.shape[1:])
        run.check_rows(self, ids.shape)
        names, padding = self.names, self.module.padding_idx
        result: Tensor = _Embedding.apply(ids, self.module.weight, padding, names["weight"], run)
        return result


class _EmbeddingContext(TapContext, Protocol):
    name: str
    shape: torch.Size
    padding: int | None


class _Embedding(torch.autograd.Function):
    """`W[id]`; W is an input so that autograd calls backward, but gets no gradient from it."""

    @staticmethod
    def forward(
        ctx: _EmbeddingContext, ids: Tensor, w: Tensor, padding: int | None, name: str, run: Pass
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.padding, ctx.name, ctx.run = w.shape, padding, name, run
        return functional.embedding(ids, w)

    @staticmethod
    def backward(ctx: _EmbeddingContext, *grads: Tensor) -> tuple[None, ...]:
        (ids,), run = ctx.saved_tensors, ctx.run
        ids_ET = ids.reshape(run.examples, -1)
        dy_ETD = grads[0].reshape(*ids_ET.shape, -1)
        if ctx.padding is not None:  # its row is not trained
            dy_ETD = dy_ETD.masked_fill((ids_ET == ctx.padding)[..., None], 0)
        block_EVD = dy_ETD.new_zeros(run.examples, *ctx.shape)
        rows_E1 = torch.arange(run.examples, device=ids.device)[:, None]
        # Not index_add_: on a GPU its sums come in any order, and features must repeat to the bit.
        block_EVD.index_put_((rows_E1, ids_ET), dy_ETD, accumulate=True)
        run.add(ctx.name, block_EVD)
        return None, None, None, None, None


@dataclass(frozen=True, eq=False)
class VectorTap(Tap):
    """Stands in for a layer with vector weights, whatever it computes with them."""

    original: Callable[[Tensor], Tensor]

    def forward(self, run: Pass, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return the layer's output, each example's from its own copy of the vectors."""
        if args or kwargs:
            raise InputError(
                f"module {self.module_name!r}, a {type(self.module).__name__}, takes more than one "
                f"input, so its gradient cannot be separated by example; freeze it"
            )
        run.check_rows(self, x.shape[:-1])
        copies = [
            _Copies.apply(self.module.get_parameter(key), name, run)
            for key, name in self.names.items()
        ]
        # A single example keeps the number of dimensions that the layer expects.
        x_by_example = x.reshape(run.examples, -1, *x.shape[1:])
        y_by_example: Tensor = torch.vmap(self._with)(x_by_example, *copies)
        return y_by_example.flatten(0, 1)

    def _with(self, x: Tensor, *vectors: Tensor) -> Tensor:
        return _call_with(
            self.module, dict(zip(self.names, vectors, strict=True)), self.original, x
        )


class _CopiesContext(TapContext, Protocol):
    name: str


class _Copies(torch.autograd.Function):
    """A vector, once for each example: (D,) to (E, D). The vector gets no gradient from it."""

    @staticmethod
    def forward(ctx: _CopiesContext, vector: Tensor, name: str, run: Pass) -> Tensor:
        ctx.name, ctx.run = name, run
        return vector.repeat(run.examples, 1)

    @staticmethod
    def backward(ctx: _CopiesContext, *grads: Tensor) -> tuple[None, ...]:
        # A copy, because the gradient may share its memory with another and sinks change blocks.
        ctx.run.add(ctx.name, grads[0].clone())
        return None, None, None


def _call_with(
    module: nn.Module, swapped: Mapping[str, Tensor], call: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Return `call(x)` with these parameters in the module. (`functional_call` would call the tap.)"""
    kept = dict(module._parameters)
    try:
        module._parameters.update(swapped)  # type: ignore[arg-type]
        return call(x)
    finally:
        module._parameters.update(kept)
