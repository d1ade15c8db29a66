"""What the optimizer moves is float32, whatever the model's own type."""

from __future__ import annotations

import pytest
import torch

from tis_ray.training.master_weights import Weights


def layer(dtype: torch.dtype) -> torch.nn.Linear:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 4).to(dtype)
    linear.bias.requires_grad_(False)
    return linear


def backward(linear: torch.nn.Linear, scale: float = 1.0) -> None:
    rows = torch.linspace(-1, 1, 8 * 8, dtype=linear.weight.dtype).view(8, 8)
    (scale * linear(rows).square().sum()).backward()


def test_float32_parameters_are_moved_themselves() -> None:
    linear = layer(torch.float32)
    weights = Weights(linear)
    assert list(weights.tensors) == ["weight"]
    assert weights.tensors["weight"] is linear.weight
    assert not weights.sharded


def test_steps_below_the_spacing_of_bfloat16_add_up() -> None:
    """Two hundred steps of 2e-5: each would be lost in a bfloat16 weight of size 0.3 (spacing 0.001)."""
    linear = layer(torch.bfloat16)
    before = linear.weight.detach().clone()
    weights = Weights(linear)
    optimizer = torch.optim.SGD(weights.tensors.values(), lr=1.0)
    for _ in range(200):
        weights.tensors["weight"].grad.fill_(2e-5)  # type: ignore[union-attr]
        optimizer.step()
        weights.publish()
    moved = before.float() - linear.weight.detach().float()
    assert float(moved.mean()) == pytest.approx(200 * 2e-5, rel=0.05)
    one_step = before - torch.tensor(2e-5, dtype=torch.bfloat16)
    assert (one_step == before).float().mean() > 0.9


def test_gradients_of_passes_are_added_in_float32() -> None:
    """A thousand small ones after a large one: in bfloat16 they would not count."""
    linear = layer(torch.bfloat16)
    weights = Weights(linear)
    backward(linear)
    assert linear.weight.grad is None
    found = weights.tensors["weight"].grad
    assert found is not None
    large = found.clone()
    for _ in range(1000):
        backward(linear, scale=2**-10)
    assert torch.allclose(found, large * (1 + 1000 * 2**-10), rtol=1e-2)


def test_a_closed_one_lets_go_of_the_model() -> None:
    linear = layer(torch.bfloat16)
    weights = Weights(linear)
    weights.close()
    backward(linear)
    assert linear.weight.grad is not None
    assert weights.tensors["weight"].grad is None


def test_the_norm_that_is_told_is_the_one_before_clipping() -> None:
    linear = layer(torch.bfloat16)
    weights = Weights(linear)
    gradient = weights.tensors["weight"].grad
    assert gradient is not None
    gradient.fill_(3.0)
    norm = float(weights.clip(1.0))
    assert norm == pytest.approx(3 * 32**0.5)
    assert float(gradient.norm()) == pytest.approx(1.0, rel=1e-4)
