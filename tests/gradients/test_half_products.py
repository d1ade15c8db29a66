"""LoRA gradients beside a bfloat16 base: products of bfloat16 numbers with float32 sums."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tis_ray.batches.segments import Segments
from tis_ray.gradients import lora_tap

ERROR = 1e-4
"""Most that rounding in the products may move an example's gradient, as a part of its length."""


class Layer(nn.Module):
    """One linear layer, as a model."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out, bias=False)


class Run:
    """What a tap needs of a pass: examples end to end, and where the gradients go."""

    def __init__(self, lengths: list[int]) -> None:
        self.segments, self.examples = Segments.of(lengths), len(lengths)
        self.found: dict[str, torch.Tensor] = {}
        self.dropout_seeds = None

    def check_rows(self, *_: Any) -> None: ...

    def by_example(self, _module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return self.segments.by_example(rows.reshape(-1, rows.shape[-1]))

    def add(self, name: str, block: torch.Tensor) -> None:
        self.found[name] = block


@pytest.mark.parametrize("rank", [1, 16])
@pytest.mark.parametrize("lengths", [[1, 40, 7], [64]])
def test_rounding_moves_a_gradient_by_less_than_a_ten_thousandth(
    rank: int, lengths: list[int]
) -> None:
    torch.manual_seed(0)
    width, out = 96, 160
    config = LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=["linear"])
    model = get_peft_model(Layer(width, out), config)
    layer = model.base_model.model.linear
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    nn.init.normal_(b, std=0.1)
    layer.base_layer.bfloat16()
    taps = lora_tap.lora_taps(model, {"A": a, "B": b})
    x = torch.randn(1, sum(lengths), width).bfloat16().requires_grad_()
    dy = torch.randn(1, sum(lengths), out).bfloat16()
    run = Run(lengths)
    y = taps[0].forward(run, x)  # type: ignore[arg-type]
    y.backward(dy)

    # The same sums in float64, over the very same x and dy.
    exact = SimpleNamespace(x=x.detach().double()[0], dy=dy.double()[0], a=a.double(), b=b.double())
    scaling = 3.0
    starts = run.segments.cu_seqlens.tolist()
    for e, (start, stop) in enumerate(pairwise(starts)):
        own_x, own_dy = exact.x[start:stop], exact.dy[start:stop]
        truth = {
            "B": scaling * own_dy.T @ (own_x @ exact.a.T),
            "A": scaling * (own_dy @ exact.b).T @ own_x,
        }
        for name, gradient in truth.items():
            assert run.found[name].dtype == torch.float32
            apart = (run.found[name][e].double() - gradient).norm() / gradient.norm()
            assert apart < ERROR, (name, e, apart)
    truth_y = (
        exact.x @ layer.base_layer.weight.double().T + scaling * exact.x @ exact.a.T @ exact.b.T
    )
    assert (y[0].double() - truth_y).norm() / truth_y.norm() < 4e-3  # bfloat16 itself
