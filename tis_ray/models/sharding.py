"""A model whose weights lie in parts over the workers (FSDP), and the whole model made of them.

Each worker keeps its part of every weight, gradient and moment in float32; a layer's weights are
put together for the time of its pass, in the model's own type. Two workers so need half the memory
each, and give the numbers of one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor


def shard_model(model: Any, device: str) -> None:
    """Cut a model that lies on the host into parts on the workers' devices, in place.

    The unit that is put together at a time is what transformers says must not be split.
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
def gather_weights(model: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the whole weights by name, on the host of the first worker; on others nothing.

    Every worker must call this.
    """
    found = {}
    for name, parameter in model.named_parameters():
        whole = parameter.full_tensor()
        if dist.get_rank() == 0:
            found[name] = whole.to("cpu", dtype)
    return found


@torch.no_grad()
def set_weights(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """Give a plain model these weights, one for each of its parameters."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
