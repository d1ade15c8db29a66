"""Master weights: the float32 tensors that the optimizer updates, one for each trainable parameter.

A parameter in float32 (an adapter's, a float32 model's, a sharded model's part) is that tensor
itself. One in bfloat16 has a float32 copy: the passes run in bfloat16 and hand their gradients to
the copy, which adds them up in float32; the optimizer moves the copy, and the parameter is its
rounding. Without the copy most steps would be lost: at a learning rate of 2e-5 a step is smaller
than the distance between neighbouring bfloat16 numbers.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from tis_ray.models.lora import CausalLM, trainable_parameters


class Weights:
    """The float32 tensors of a model's trainable parameters, with their gradients.

    tensors: by parameter name, in `named_parameters` order; each has a `.grad` of zeros.
    sharded: whether each worker holds a part of every tensor, instead of all of it.
    """

    def __init__(self, model: CausalLM) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._copied: list[tuple[torch.nn.Parameter, Tensor]] = []
        self._hooks = []
        self._parameters = list(trainable_parameters(model).values())
        for name, parameter in trainable_parameters(model).items():
            tensor: Tensor = parameter
            if parameter.dtype != torch.float32:
                tensor = parameter.detach().float()
                self._copied.append((parameter, tensor))
                hand_over = partial(_hand_over, tensor)
                self._hooks.append(parameter.register_post_accumulate_grad_hook(hand_over))
            tensor.grad = torch.zeros_like(tensor)
            self.tensors[name] = tensor
        self.sharded = any(isinstance(tensor, DTensor) for tensor in self.tensors.values())

    def add_up(self) -> None:
        """Sum the gradients over all workers (sharded ones are summed in the backward pass)."""
        if dist.is_initialized() and not self.sharded:
            for tensor in self.tensors.values():
                dist.all_reduce(tensor.grad)

    def clip(self, norm: float) -> Tensor:
        """Scale the gradients down to this norm; return the norm they had."""
        before: Tensor = torch.nn.utils.clip_grad_norm_(self.tensors.values(), norm)
        return before.full_tensor() if isinstance(before, DTensor) else before

    @torch.no_grad()
    def publish(self) -> None:
        """Round the copies into the parameters that they belong to."""
        for parameter, tensor in self._copied:
            parameter.copy_(tensor)

    @torch.no_grad()
    def sums(self) -> list[list[float]]:
        """Return each parameter's sum and sum of squares: if none has changed, no weight has moved.

        Taken of the parameters, not of their copies: a step may be lost when it is rounded.
        """
        sums_P2 = torch.stack([_sums(local(parameter)) for parameter in self._parameters])
        if self.sharded:
            dist.all_reduce(sums_P2)
        sums: list[list[float]] = sums_P2.tolist()
        return sums

    def close(self) -> None:
        """Release the model: free the gradients and remove the hooks on its parameters."""
        for hook in self._hooks:
            hook.remove()
        for tensor in self.tensors.values():
            tensor.grad = None


def local(tensor: Tensor) -> Tensor:
    """Return what this worker holds of a tensor: all of it, or its part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _hand_over(tensor: Tensor, parameter: Tensor) -> None:
    assert tensor.grad is not None
    assert parameter.grad is not None
    tensor.grad += parameter.grad
    parameter.grad = None


def _sums(tensor: Tensor) -> Tensor:
    """Return the sum and the sum of squares, (2,) float64, converting a little at a time."""
    total = torch.zeros(2, dtype=torch.float64, device=tensor.device)
    for part in tensor.flatten().split(2**22):
        values = part.double()
        total += torch.stack([values.sum(), values.square().sum()])
    return total
