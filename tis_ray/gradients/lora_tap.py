"""Taps on LoRA layers: the per-example gradients of an adapter's weights.

A LoRA layer adds `s·B A (m∘x)` to its base layer, with m its dropout mask (1 where dropout is off).
Its weight gradients are products of its input x and the gradient dy of its output:

    dB = s Σ_t dy_t (A m_t∘x_t)ᵀ        dA = Σ_t (s Bᵀ dy_t) (m_t∘x_t)ᵀ

The base layer is left to autograd: its weights are frozen.

Beside a bfloat16 base, x and dy are bfloat16 already, and products of bfloat16 numbers with float32
sums take half the time and a third of the traffic of casting both to float32. What is float32, that is
A, B, A x and Bᵀ dy, enters them as a sum of two bfloat16 numbers, 16 bits of the 24, so that a gradient
is off by less than 1e-4 of its length (the base's own rounding: 1e-2).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple, Protocol

import torch
from peft import PeftModel, PeftType
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from torch.nn import functional

from tis_ray.errors import InputError
from tis_ray.gradients.dropout import keep_mask
from tis_ray.gradients.tap import Pass, Tap, TapContext, token_products


def lora_taps(model: PeftModel, trainable: Mapping[str, nn.Parameter]) -> list[Tap]:
    """Return taps on the LoRA layers, whose weights must be the model's only trainable parameters.

    Raises InputError, naming the parameter or module, for anything whose gradient the taps would
    get wrong or miss: no LoRA adapter or several active ones, DoRA and other variants, layers
    other than linear ones, LoRA biases, merged or disabled adapters, and trainable parameters
    outside LoRA (`modules_to_save`, trained embeddings).
    """
    adapter = _only_adapter(model)
    names = {id(parameter): name for name, parameter in trainable.items()}
    taps: list[Tap] = []
    for module_name, module in model.named_modules():
        if not isinstance(module, LoraLayer) or adapter not in _adapters_of(module):
            continue
        _refuse_unusual(module_name, module, adapter)
        a, b = module.lora_A[adapter].weight, module.lora_B[adapter].weight
        own = {key: names.pop(id(p)) for key, p in (("A", a), ("B", b)) if id(p) in names}
        if own:
            scaling = float(module.scaling[adapter])
            rate = float(getattr(module.lora_dropout[adapter], "p", 0.0))
            taps.append(LoraTap(module_name, module, own, a, b, scaling, rate))
    if names:
        raise InputError(
            f"parameter {next(iter(names.values()))!r} is trainable but is not a LoRA weight of a "
            "linear layer; with an adapter, only LoRA weights have per-example gradients: freeze it, "
            "or train without modules_to_save, biases or embeddings"
        )
    if not taps:
        raise InputError(
            f"LoRA adapter {adapter!r} has no trainable weight; "
            "load it with PeftModel.from_pretrained(..., is_trainable=True)"
        )
    return taps


@dataclass(frozen=True, eq=False)
class LoraTap(Tap):
    """Stands in for a LoRA layer; `names` has "A" and "B", or the one of them that is trained."""

    a: nn.Parameter
    b: nn.Parameter
    scaling: float
    rate: float

    def forward(self, run: Pass, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return the base layer's output plus LoRA's, with the pass's dropout."""
        run.check_rows(self, x.shape[:-1])
        result: Tensor = self.module.get_submodule("base_layer")(x, *args, **kwargs)
        keep = self._keep(run, x)
        if keep is None and x.dtype == result.dtype == torch.bfloat16:
            halved: Tensor = _HalfLoraSum.apply(result, x, self.a, self.b, self, run)
            return halved
        summed: Tensor = _LoraSum.apply(result, x, self.a, self.b, keep, self, run)
        return summed

    @cached_property
    def halves(self) -> "Halves":
        """The weights as sums of bfloat16 numbers, made once: they must not change under a tap."""
        with torch.no_grad():
            return Halves(
                torch.cat(_parts(self.a * self.scaling)).T,
                torch.cat(_parts(self.b * self.scaling), dim=1),
                self.a.bfloat16(),
                self.b.bfloat16().T,
            )

    def dropped(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Apply inverted dropout to the input or, since it is diagonal, to the input's gradient."""
        return x if keep is None else (x * keep).mul_(1 / (1 - self.rate))

    def _keep(self, run: Pass, x: Tensor) -> Tensor | None:
        if run.dropout_seeds is None or self.rate == 0:
            return None
        positions = run.positions(self.module)
        keep = keep_mask(run.dropout_seeds, self.module_name, positions, x.shape[-1], self.rate)
        return run.as_rows(self.module, keep, x.shape)


_SUMS_IN_FLOAT32 = "dtype" in torch.ops.aten.bmm.overloads()
"""Whether this torch multiplies bfloat16 into float32 (from 2.8 on, on GPUs)."""


class Halves(NamedTuple):
    """s A and s B as bfloat16 numbers beside what they leave over, (in, 2r) and (out, 2r); A and Bᵀ alone."""

    a_twice: Tensor
    b_twice: Tensor
    a: Tensor
    b: Tensor


def _parts(exact: Tensor) -> tuple[Tensor, Tensor]:
    """Return a tensor in bfloat16, and what that leaves over."""
    high = exact.bfloat16()
    return high, (exact - high).bfloat16()


def _both(products: Iterable[Tensor]) -> Tensor:
    """Return the sum of the two parts' products, in the memory of the first."""
    high, low = products
    return high.add_(low)


def half_products(left: Tensor, right: Tensor) -> Tensor:
    """Return the product of bfloat16 matrices, (.., n, k) and (.., k, m), with float32 sums, in float32."""
    if not (left.is_cuda and _SUMS_IN_FLOAT32):
        return left.float() @ right.float()
    multiply = torch.mm if left.dim() == 2 else torch.bmm
    return multiply(left, right, torch.float32)


class _HalfContext(TapContext, Protocol):
    tap: LoraTap


class _HalfLoraSum(torch.autograd.Function):
    """`_LoraSum` of a bfloat16 layer without dropout."""

    @staticmethod
    def forward(
        ctx: _HalfContext, result: Tensor, x: Tensor, a: Tensor, b: Tensor, tap: LoraTap, run: Pass
    ) -> Tensor:
        u = _summed(half_products(x.reshape(-1, x.shape[-1]), tap.halves.a_twice))
        ctx.save_for_backward(x, u)
        ctx.tap, ctx.run = tap, run
        result.view(-1, result.shape[-1]).addmm_(u.bfloat16(), tap.halves.b)
        ctx.mark_dirty(result)
        return result

    @staticmethod
    def backward(ctx: _HalfContext, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, u = ctx.saved_tensors
        tap, run, dy = ctx.tap, ctx.run, grads[0]
        du = _summed(half_products(dy.reshape(-1, dy.shape[-1]), tap.halves.b_twice))
        grouped = partial(run.by_example, tap.module)
        if "B" in tap.names:
            dy_EoT = grouped(dy).transpose(1, 2)
            run.add(
                tap.names["B"], _both(half_products(dy_EoT, grouped(part)) for part in _parts(u))
            )
        if "A" in tap.names:
            x_ETi = grouped(x)
            parts = (grouped(part).transpose(1, 2) for part in _parts(du))
            run.add(tap.names["A"], _both(half_products(part, x_ETi) for part in parts))
        dx = (du.bfloat16() @ tap.halves.a).view(x.shape) if ctx.needs_input_grad[1] else None
        return dy, dx, None, None, None, None


def _summed(twice_R2r: Tensor) -> Tensor:
    """Return the sum of the products with the high and the low part."""
    rank = twice_R2r.shape[1] // 2
    return twice_R2r[:, :rank] + twice_R2r[:, rank:]


class _LoraContext(TapContext, Protocol):
    tap: LoraTap


class _LoraSum(torch.autograd.Function):
    """`result + s·B A (m∘x)`; A and B are inputs so that autograd calls backward, but get no gradient."""

    @staticmethod
    def forward(
        ctx: _LoraContext,
        result: Tensor,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        keep: Tensor | None,
        tap: LoraTap,
        run: Pass,
    ) -> Tensor:
        # The adapter's own dtype computes, as in PEFT. x is kept as it came (bf16 takes half), and
        # is shared with the other layers that read it; a masked copy would not be.
        u = functional.linear(tap.dropped(x.to(a.dtype), keep), a).mul_(tap.scaling)
        ctx.save_for_backward(x, u, a, b, keep)
        ctx.tap, ctx.run = tap, run
        if result.dtype != b.dtype:
            return (result + functional.linear(u, b)).to(result.dtype)
        # The product is added to the base layer's output in place, which saves a pass over memory and
        # an activation.
        result.view(-1, result.shape[-1]).addmm_(u.view(-1, u.shape[-1]), b.T)
        ctx.mark_dirty(result)
        return result

    @staticmethod
    def backward(ctx: _LoraContext, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, u, a, b, keep = ctx.saved_tensors
        tap, run = ctx.tap, ctx.run
        dy = grads[0].to(b.dtype)
        du = (dy @ b).mul_(tap.scaling)
        grouped = partial(run.by_example, tap.module)
        if "B" in tap.names:
            run.add(tap.names["B"], token_products(grouped(dy), grouped(u), run.examples))
        if "A" in tap.names:
            kept = tap.dropped(x.to(a.dtype), keep)
            run.add(tap.names["A"], token_products(grouped(du), grouped(kept), run.examples))
        dx = tap.dropped(du @ a, keep).to(x.dtype) if ctx.needs_input_grad[1] else None
        return grads[0], dx, None, None, None, None, None


def _only_adapter(model: PeftModel) -> str:
    active = list(model.active_adapters)
    if len(active) != 1:
        raise InputError(f"model has {len(active)} active adapters {active}; activate exactly one")
    kind = model.peft_config[active[0]].peft_type
    if kind != PeftType.LORA:
        raise InputError(
            f"adapter {active[0]!r} is of type {getattr(kind, 'value', kind)}; only LORA is supported"
        )
    return str(active[0])


def _adapters_of(module: LoraLayer) -> set[str]:
    return {*module.lora_A.keys(), *module.lora_embedding_A.keys()}


def _refuse_unusual(module_name: str, module: LoraLayer, adapter: str) -> None:
    variant = module.lora_variant.get(adapter)
    if variant is not None:
        name = type(variant).__name__.removesuffix("Variant")
        raise InputError(
            f"module {module_name!r} uses the LoRA variant {name} (such as DoRA); "
            "only plain LoRA is supported"
        )
    if isinstance(module, ParamWrapper):
        raise InputError(
            f"module {module_name!r} is a LoRA ParamWrapper: its adapter is on a parameter of no linear "
            "layer (a router's, or that of experts); only LoRA on linear layers is supported"
        )
    # Exactly this class: its quantised and parallel variants compute something else.
    if type(module) is not LoraLinear:
        raise InputError(
            f"module {module_name!r} is a LoRA {type(module).__name__} layer "
            f"({type(module).__module__}); only LoRA on linear layers is supported"
        )
    if module.lora_B[adapter].bias is not None:
        raise InputError(f"module {module_name!r} has a LoRA bias; set lora_bias=False")
    if module.merged or module.disable_adapters:
        state = "merged into the base weights" if module.merged else "disabled"
        raise InputError(f"module {module_name!r}: its adapter is {state}; undo that first")
