"""Rotary factors by a row's own length, for models in which they depend on the longest row of a pass.

Some models stretch their rotary embeddings for long inputs (longrope in Phi-3.5, dynamic NTK), and
decide by the largest position of the whole batch; dynamic NTK also remembers the longest input that it
has seen. There a row's loss would depend on its neighbours, and on whatever ran before. Here the
model's own rotary module is called for one length at a time, with the last position of the whole row
among its positions, so that each row gets the factors that it gets alone. Batches need no other plan.

Which modules need this is found out by calling them, not by a list of names; most models have none.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tis_ray.batches.segments import Segments
from tis_ray.errors import InputError

Factors = Tensor | tuple[Tensor, ...]
"""What a rotary module returns: cosines and sines, or complex numbers, each (1 or E, T, ...)."""

_FAR = 2**22
"""A position beyond any model's original length, and exact in float32."""

_stretched: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()


@contextmanager
def own_rotary(
    base: PreTrainedModel, lengths: Sequence[int], segments: Segments | None = None
) -> Iterator[None]:
    """Within this context each row of a batch gets the rotary factors that it gets alone.

    lengths: tokens of each example as a whole, even if the batch holds fewer of them.
    segments: of a packed batch; None if it is padded on the right.
    """
    modules = _stretched_modules(base)
    own = [module.__dict__.get("forward") for module in modules]
    try:
        for module in modules:
            module.forward = partial(_by_length, module.forward, lengths, segments)
        yield
    finally:
        for module, forward in zip(modules, own, strict=True):
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = forward
        forget_lengths(base)


def forget_lengths(base: PreTrainedModel) -> None:
    """Let a model forget how long its inputs have been, as if it were new."""
    for module in _stretched_modules(base):
        _forget(module)


def rotary_depends_on_length(base: PreTrainedModel, longest: int) -> bool:
    """Return whether rows of up to `longest` tokens do not all get the same rotary factors."""
    return any(_changes(module, longest - 1) for module in _stretched_modules(base))


def _stretched_modules(base: PreTrainedModel) -> list[nn.Module]:
    """Return the rotary modules whose factors depend on the largest position. Found out once a model."""
    if base not in _stretched:
        rotary = [module for module in base.modules() if _is_rotary(module)]
        _stretched[base] = [module for module in rotary if _changes(module, _FAR)]
    return _stretched[base]


def _is_rotary(module: nn.Module) -> bool:
    """Return whether a module computes factors from positions alone, as all do in transformers."""
    if next(module.children(), None) is not None or next(module.parameters(), None) is not None:
        return False
    return list(inspect.signature(module.forward).parameters)[:2] == ["x", "position_ids"]


@torch.no_grad()
def _changes(module: nn.Module, last: int) -> bool:
    """Return whether position 1 gets other factors beside a position `last` than alone."""
    device = next((buffer.device for buffer in module.buffers()), None)
    like = torch.zeros(1, device=device)  # float32, where small differences show
    near, far = torch.tensor([[1]], device=device), torch.tensor([[1, last]], device=device)
    changed = False
    for call in _calls(module):
        alone, beside = _parts(_fresh(call, like, near)), _parts(_fresh(call, like, far))
        changed |= any(not torch.equal(a, b[:, :1]) for a, b in zip(alone, beside, strict=True))
    _forget(module)
    return changed


def _calls(module: nn.Module) -> list[Callable[[Tensor, Tensor], Factors]]:
    """Return the module for each kind of layer that it serves; most serve one."""
    kinds = getattr(module, "rope_type", None)
    if isinstance(kinds, dict):
        return [partial(module, layer_type=kind) for kind in kinds]
    return [module]


def _fresh(call: Callable[[Tensor, Tensor], Factors], x: Tensor, positions: Tensor) -> Factors:
    """Return the factors of a module that has forgotten longer inputs: a single token makes it."""
    call(x, positions.new_zeros(1, 1))
    return call(x, positions)


@torch.no_grad()
def _forget(module: nn.Module) -> None:
    """Let a rotary module forget the inputs that it has seen, as if it were new."""
    device = next((buffer.device for buffer in module.buffers()), None)
    for call in _calls(module):
        call(torch.zeros(1, device=device), torch.zeros(1, 1, dtype=torch.int64, device=device))


def _by_length(
    forward: Callable[..., Factors],
    lengths: Sequence[int],
    segments: Segments | None,
    x: Tensor,
    position_ids: Tensor,
    **kwargs: object,
) -> Factors:
    """Return the factors of each row by its own length, (E, T, ...), or (1, R, ...) if packed."""
    if position_ids.dim() != 2 or len(position_ids) not in (1, len(lengths)):
        raise InputError(
            f"a rotary embedding with positions of shape {tuple(position_ids.shape)} depends on the "
            "length of its input, so a row cannot be kept apart from its neighbours; use another model"
        )
    call = partial(forward, **kwargs)
    if segments is None:
        rows = position_ids.expand(len(lengths), -1).split(1)
    else:
        rows = position_ids.split(list(segments.lengths), dim=1)
    factors = []
    for positions, length in zip(rows, lengths, strict=True):
        # No position is beyond the row's last: what stands there is padding, which nobody reads.
        last = positions.new_full((1, 1), length - 1)
        whole = torch.cat([positions.clamp(max=length - 1), last], dim=1)
        factors.append([part[:, :-1] for part in _parts(_fresh(call, x, whole))])
    joined = [
        torch.cat(parts, dim=int(segments is not None)) for parts in zip(*factors, strict=True)
    ]
    return joined[0] if len(joined) == 1 else tuple(joined)


def _parts(factors: Factors) -> tuple[Tensor, ...]:
    return (factors,) if isinstance(factors, Tensor) else factors
