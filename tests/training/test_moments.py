"""Estimated moments: Adam's own recursion at weights that stay."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from tis_ray.errors import InputError
from tis_ray.gradients import MomentEstimate
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora, trainable_parameters
from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
from tis_ray.training.moments import estimated_moments

ROWS = [
    {
        "input_ids": list(range(5 + i, 13 + i)),
        "labels": [-100] * (1 + i % 4) + [7 + i] * (7 - i % 4),
    }
    for i in range(10)
]


def model():
    adapted = attach_lora(load_model(ModelConfig()), LoraConfig(rank=2, dropout=0.3), seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainable_parameters(adapted).values():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return adapted


def test_the_estimate_is_the_state_of_torchs_adam_at_rate_zero():
    generator = torch.Generator().manual_seed(3)
    weight = torch.nn.Parameter(torch.zeros(4, 3))
    adam, estimate = torch.optim.Adam([weight], lr=0.0), MomentEstimate()
    for _ in range(7):
        weight.grad = torch.randn(4, 3, generator=generator)
        estimate.add({"w": weight.grad})
        adam.step()
    first, second = estimate.moments()
    torch.testing.assert_close(first["w"], adam.state[weight]["exp_avg"])
    torch.testing.assert_close(second["w"], adam.state[weight]["exp_avg_sq"])


def test_no_batch_is_an_error():
    with pytest.raises(InputError, match="no mini-batch was given"):
        MomentEstimate().moments()


@pytest.mark.parametrize("norm", [1e9, 0.5])
def test_moments_are_of_mini_batches_row_after_row(norm):
    """Against a plain pass over each batch: its loss by transformers' formula, no batching of ours."""
    config = TrainingConfig(epochs=1, batch_size=4, max_grad_norm=norm, micro_tokens=20)
    adapted = model()
    before = {name: p.detach().clone() for name, p in trainable_parameters(adapted).items()}
    found = estimated_moments(adapted, ROWS, config)
    estimate = MomentEstimate()
    for start in (0, 4, 8):
        adapted.zero_grad()
        losses = []
        for row in ROWS[start : start + 4]:
            logits = adapted(torch.tensor([row["input_ids"]])).logits[0, :-1]
            losses.append(
                cross_entropy(logits, torch.tensor(row["labels"][1:]), reduction="none")[
                    torch.tensor(row["labels"][1:]) != -100
                ]
            )
        torch.cat(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(trainable_parameters(adapted).values(), norm)
        estimate.add({name: p.grad.clone() for name, p in trainable_parameters(adapted).items()})
    for moments, expected in zip(found, estimate.moments(), strict=True):
        assert moments.keys() == expected.keys()
        for name, moment in moments.items():
            torch.testing.assert_close(moment, expected[name], rtol=2e-4, atol=1e-7)
    for name, parameter in trainable_parameters(adapted).items():
        assert torch.equal(parameter, before[name]), "no weight moves"


def test_an_untrained_adapter_has_moments_of_b_alone():
    """At B = 0 the loss does not depend on A; that is no error."""
    adapted = attach_lora(load_model(ModelConfig()), LoraConfig(rank=2), seed=1)
    first, second = estimated_moments(adapted, ROWS, TrainingConfig(epochs=1, batch_size=4))
    for name in first:
        assert bool(second[name].any()) == bool(first[name].any()) == ("lora_B" in name)


def test_a_loss_that_is_not_finite_is_one_line():
    adapted = model()
    with torch.no_grad():
        next(iter(trainable_parameters(adapted).values())).fill_(torch.inf)
    with pytest.raises(InputError, match="moments: at the adapter as it was given the loss is"):
        estimated_moments(adapted, ROWS, TrainingConfig(epochs=1))
