"""What the optimizer moves: one float32 tensor for each trainable parameter, by name.

A parameter in float32 (an adapter's, a float32 model's, a sharded model's part) is that tensor
itself. One in bfloat16 has a float32 copy: the passes run in bfloat16 and hand their gradients to
the copy, which adds them up in float32; the optimizer moves the copy, and the parameter is its
rounding. Without the copy most steps would be lost: at a learning rate of 2e-5 a step is smaller
than the distance between neighbouring bfloat16 numbers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from tis_ray.models.lora import trainable_parameters


class Weights:
    """The float32 tensors of a model's trainable parameters, with their gradients.

    tensors: by parameter name, in `named_parameters` order; each `.grad` is there and zero.
    sharded: whether each worker holds a part of every tensor, instead of all of it.
    """

    def __init__(self, model: Any) -> None:
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
        """Sum the gradients over all workers (those of parts are summed as they are made)."""
        if dist.is_initialized() and not self.sharded:
            for tensor in self.tensors.values():
                dist.all_reduce(tensor.grad)

    def clip(self, norm: float) -> Tensor:
        """Scale the gradients down to this norm; return the norm they had."""
        found: Tensor = torch.nn.utils.clip_grad_norm_(self.tensors.values(), norm)
        return found.full_tensor() if isinstance(found, DTensor) else found

    @torch.no_grad()
    def publish(self) -> None:
        """Round the copies into the parameters that they belong to."""
        for parameter, tensor in self._copied:
            parameter.copy_(tensor)

    @torch.no_grad()
    def sums(self) -> list[list[float]]:
        """Return each parameter's sum and sum of squares: where all are as before, nothing has moved.

        Of the parameters themselves: a step may be too small for one that is rounded.
        """
        found = torch.stack([_sums(local(parameter)) for parameter in self._parameters])
        if self.sharded:
            dist.all_reduce(found)
        return found.tolist()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let go of the model: free the gradients, and take the parameters' hooks off."""
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
    """Return (2,) the sum and the sum of squares, in float64, of which a little is made at a time."""
    total = torch.zeros(2, dtype=torch.float64, device=tensor.device)
    for part in tensor.flatten().split(2**22):
        values = part.double()
        total += torch.stack([values.sum(), values.square().sum()])
    return total
