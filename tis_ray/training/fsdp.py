"""Sharding of a model's weights over workers (FSDP), and gathering of the whole model.

Each worker keeps its part of every weight, gradient and moment in float32; a layer's weights are
gathered for the duration of its pass, in the model's own type. So two workers need half the memory
each, and give the same numbers as one.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel


def shard_model(model: PreTrainedModel, device: str) -> None:
    """Split a model on the host into parts on the workers' devices, in place.

    The modules that are gathered one at a time are those that transformers says must not be split.
    """
    dtype = next(model.parameters()).dtype
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32
    )
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    names = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    for module in (*layers, model):
        for parameter in module.parameters():
            if not isinstance(parameter, DTensor):
                parameter.data = parameter.data.float()
        fully_shard(module, mesh=mesh, mp_policy=policy)


@torch.no_grad()
def gather_weights(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the whole weights by name, on the host of the first worker; nothing on the others.

    Every worker must call this.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        whole = parameter.full_tensor()
        if dist.get_rank() == 0:
            weights[name] = whole.to("cpu", dtype)
    return weights


@torch.no_grad()
def set_weights(model: PreTrainedModel, weights: dict[str, torch.Tensor]) -> None:
    """Copy these weights, one for each parameter, into a model that is not sharded."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
