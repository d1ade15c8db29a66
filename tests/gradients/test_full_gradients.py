"""Per-example gradients of a model's own parameters equal those of one example at a time."""

import weakref

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from torch import nn

from tests.properties import tries
from tis_ray.batches import collate
from tis_ray.gradients import backward_per_example, per_example_gradients

TIGHT = 2e-6
LENGTHS = st.lists(st.integers(2, 24), min_size=1, max_size=7)
SOLID = ["llama", "llama, tied", "qwen2", "gpt_neox", "phi"]


# --- equal to the loop ------------------------------------------------------------------------


@tries(40, [HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    lengths=LENGTHS,
    kind=st.sampled_from(SOLID),
    token_budget=st.sampled_from([1, 40, 2048]),
)
def test_batched_gradients_equal_the_loop(lab, seed, lengths, kind, token_budget):
    model = lab.cached_full_model(kind)
    lab.train_only(model, "")
    examples = lab.random_examples(seed, lengths)
    truth, _ = lab.loop_gradients(model, examples)
    found = per_example_gradients(model, examples, token_budget=token_budget)
    assert found.dtype == torch.float32
    assert lab.relative_error(found, truth) <= TIGHT


@tries(25)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(SOLID),
    parts=st.sampled_from(
        [
            ("layers.1.",),
            ("norm",),
            ("embed",),
            ("mlp", "norm"),
            ("lm_head", "embed_out", "embed_tokens"),
            ("layers.0.", "norm.weight"),
        ]
    ),
)
def test_a_subset_of_the_parameters(lab, seed, kind, parts):
    model = lab.cached_full_model(kind)
    lab.train_only(model, *parts)
    examples = lab.random_examples(seed, [7, 19, 2, 12])
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


@pytest.mark.parametrize("parts", [("bias",), ("v_proj.bias",), ("v_proj.weight",)])
def test_biases_and_weights_apart(lab, parts):
    model = lab.build_full_model("qwen2")
    assert lab.train_only(model, *parts)
    examples = lab.random_examples(2, [7, 19, 2])
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


def test_norms_of_queries_and_keys(lab):
    """Their inputs have a dimension more: (examples, tokens, heads, width of a head)."""
    model = lab.build_full_model("qwen3")
    examples = lab.random_examples(1, [4, 20, 11])
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


def test_positions_that_are_looked_up_once_for_all(lab):
    """GPT-2: learned positions, LayerNorm, a tied head; its transposed layers are frozen."""
    model = lab.build_full_model("gpt2")
    names = lab.train_only(model, "wte", "wpe", "ln_")
    assert "transformer.wpe.weight" in names
    examples = lab.random_examples(1, [4, 20, 11])
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


@pytest.mark.parametrize("kind", SOLID)
def test_losses_and_sums_equal_autograds(lab, recorder, kind):
    """The losses are the model's own; blocks add up to the weight gradient of a padded batch."""
    model = lab.build_full_model(kind)
    examples = lab.random_examples(10, [15, 9, 22])
    _, losses = lab.loop_gradients(model, examples)
    blocks, sink = recorder()
    found = backward_per_example(model, collate(examples), sink)
    torch.testing.assert_close(found, losses, rtol=1e-6, atol=0)
    names = [name for name, _ in model.named_parameters()]
    assert sorted(blocks) == sorted(names)
    total = torch.cat([blocks[name].sum(dim=0).flatten() for name in names])
    assert lab.relative_error(total[None], lab.batch_gradient(model, examples)[None]) <= TIGHT


def test_finite_differences(lab):
    model = lab.build_full_model("qwen2").double().eval()
    example = lab.random_examples(11, [14])[0]
    grads = per_example_gradients(model, [example])[0].double()
    tensors = {key: torch.tensor([example[key]]) for key in ("input_ids", "labels")}
    offset = 0
    for name, parameter in model.named_parameters():
        if "layers.1" in name or "embed" in name or name == "model.norm.weight":
            position = int(grads[offset : offset + parameter.numel()].abs().argmax())
            losses = []
            with torch.no_grad():
                for step in (1e-3, -2e-3):
                    parameter.view(-1)[position] += step
                    losses.append(float(model(**tensors).loss))
                parameter.view(-1)[position] += 1e-3
            slope = (losses[0] - losses[1]) / 2e-3
            # The loss is computed in float32, which leaves its differences about four digits.
            expected = pytest.approx(float(grads[offset + position]), rel=2e-3, abs=2e-4)
            assert slope == expected, name
        offset += parameter.numel()


def test_bfloat16_is_as_accurate_as_one_at_a_time(lab):
    model = lab.build_full_model("llama")
    examples = lab.random_examples(15, [12, 30, 21])
    truth, _ = lab.loop_gradients(model, examples)
    model.bfloat16()
    singly, _ = lab.loop_gradients(model, examples)
    batched = per_example_gradients(model, examples)
    assert lab.relative_error(batched, truth) <= 1.25 * lab.relative_error(singly.float(), truth)


# --- invariances ------------------------------------------------------------------------------


@tries(15)
@given(
    seed=st.integers(0, 2**31),
    lengths=LENGTHS,
    kind=st.sampled_from(SOLID),
    order=st.randoms(use_true_random=False),
)
def test_an_example_does_not_depend_on_its_batch(lab, seed, lengths, kind, order):
    model = lab.cached_full_model(kind)
    lab.train_only(model, "")
    examples = lab.random_examples(seed, lengths)
    together = per_example_gradients(model, examples)
    alone = per_example_gradients(model, examples, batch_size=1)
    assert lab.relative_error(alone, together) <= TIGHT
    shuffled = list(range(len(examples)))
    order.shuffle(shuffled)
    again = per_example_gradients(model, [examples[i] for i in shuffled])
    assert lab.relative_error(again, together[shuffled]) <= TIGHT


def test_padding_changes_nothing(lab, plain, recorder):
    examples = lab.random_examples(4, [6, 25])
    alone = recorder()
    backward_per_example(plain, collate(examples[:1]), alone[1])
    for pad_id in (None, 0, 5):
        padded = recorder()
        backward_per_example(plain, collate(examples, pad_id=pad_id), padded[1])
        found = torch.cat([padded[0][name][:1].flatten(1) for name in alone[0]], dim=1)
        truth = torch.cat([block.flatten(1) for block in alone[0].values()], dim=1)
        assert lab.relative_error(found, truth) <= TIGHT


@pytest.mark.parametrize("kind", SOLID)
def test_the_same_batch_gives_the_same_bits(lab, kind):
    model = lab.build_full_model(kind)
    examples = lab.random_examples(6, [6, 25, 13])
    first = per_example_gradients(model, examples)
    assert torch.equal(first, per_example_gradients(model, examples))


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_poisoned_example_leaves_the_others_untouched(lab, recorder, kind, poison):
    model = lab.build_full_model(kind)
    examples = lab.random_examples(8, [9, 4, 21, 12])
    examples[1] = {"input_ids": [7, 60, 7, 7], "labels": [-100, 7, 7, 7]}
    for other in (0, 2, 3):
        ids = examples[other]["input_ids"]
        examples[other]["input_ids"] = [1 if token == 60 else token for token in ids]
    clean = per_example_gradients(model, examples)
    with torch.no_grad():
        model.get_input_embeddings().weight[60] = poison
    found = per_example_gradients(model, examples)
    assert torch.isnan(found[1]).any()
    assert torch.equal(found[[0, 2, 3]], clean[[0, 2, 3]])
    losses = backward_per_example(model, collate(examples), recorder()[1])
    assert torch.isfinite(losses).tolist() == [True, False, True, True]


# --- the contract with the sink ---------------------------------------------------------------


def test_a_tied_weight_is_handed_over_once_with_the_sum(lab, tied, recorder):
    examples = lab.random_examples(21, [5, 18])
    both = recorder()
    backward_per_example(tied, collate(examples), both[1])
    assert "model.embed_tokens.weight" in both[0]
    assert "lm_head.weight" not in both[0]
    untied = lab.build_full_model("llama")
    untied.load_state_dict(tied.state_dict())
    apart = recorder()
    backward_per_example(untied, collate(examples), apart[1])
    total = apart[0]["model.embed_tokens.weight"] + apart[0]["lm_head.weight"]
    torch.testing.assert_close(both[0]["model.embed_tokens.weight"], total, rtol=1e-5, atol=1e-8)
    assert apart[0]["model.embed_tokens.weight"].abs().sum() > 0
    assert apart[0]["lm_head.weight"].abs().sum() > 0


def test_a_tied_weight_whose_other_use_is_not_reached(lab, tied):
    """The embedding is cut off from the loss: the head's part of the block is still handed over."""
    tied.model.embed_tokens.register_forward_hook(lambda module, args, out: out.detach())
    examples = lab.random_examples(22, [5, 18])
    truth, _ = lab.loop_gradients(tied, examples)
    assert lab.relative_error(per_example_gradients(tied, examples), truth) <= TIGHT


def test_a_layer_used_twice_is_handed_over_once(lab, plain):
    plain.model.layers[1] = plain.model.layers[0]
    examples = lab.random_examples(13, [5, 18])
    truth, _ = lab.loop_gradients(plain, examples)
    assert lab.relative_error(per_example_gradients(plain, examples), truth) <= TIGHT


def test_an_unreached_layer_gives_zeros(lab, plain, recorder):
    plain.model.config.num_hidden_layers = 1
    examples = lab.random_examples(14, [5, 18])
    blocks, sink = recorder()
    backward_per_example(plain, collate(examples), sink)
    assert sorted(blocks) == sorted(name for name, _ in plain.named_parameters())
    for name, block in blocks.items():
        assert (block == 0).all() == ("layers.1." in name), name
    truth, _ = lab.loop_gradients(plain, examples)
    assert lab.relative_error(per_example_gradients(plain, examples), truth) <= TIGHT


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.shift


@pytest.mark.parametrize("kind", [*SOLID, "shift"])
@pytest.mark.parametrize("lengths", [[2, 2, 2], [5, 18]])
def test_a_sink_may_change_its_block(lab, kind, lengths):
    """With one token an example nothing is summed, and a block could share memory with backward's."""
    model = lab.build_full_model("llama" if kind == "shift" else kind)
    if kind == "shift":
        model.model.norm = Shift()
    examples = lab.random_examples(23, lengths)
    truth, _ = lab.loop_gradients(model, examples)
    blocks = {}

    def sink(name, block):
        blocks[name] = block.flatten(1).clone()
        block.fill_(float("nan"))

    backward_per_example(model, collate(examples), sink)
    found = torch.cat([blocks[name] for name, _ in model.named_parameters()], dim=1)
    assert lab.relative_error(found, truth) <= TIGHT


@pytest.mark.parametrize("kind", ["llama, tied", "gpt_neox"])
def test_a_block_can_be_freed_as_soon_as_the_sink_returns(lab, kind):
    model = lab.build_full_model(kind)
    blocks = []

    def sink(name, block):
        assert sum(reference() is not None for reference in blocks) <= 1  # the last call's argument
        blocks.append(weakref.ref(block))

    backward_per_example(model, collate(lab.random_examples(18, [5, 9])), sink)
    assert len(blocks) == len(list(model.parameters()))


@pytest.mark.parametrize("kind", SOLID)
def test_the_model_is_left_as_it_was(lab, kind):
    model = lab.build_full_model(kind)
    examples = lab.random_examples(16, [5, 18])
    model.train()
    grads = {}
    for index, (name, parameter) in enumerate(model.named_parameters()):
        parameter.grad = torch.full_like(parameter, 3.0) if index % 2 else None
        grads[name] = parameter.grad
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: p.clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        per_example_gradients(model, examples)
    assert modes == {name: module.training for name, module in model.named_modules()}
    for name, parameter in model.named_parameters():
        assert torch.equal(weights[name], parameter)
        assert parameter.grad is grads[name]
        assert parameter.grad is None or (parameter.grad == 3).all()
        assert not parameter._backward_hooks
    assert not any("forward" in vars(module) for module in model.modules())
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    model(input_ids=torch.tensor([[1, 2]]))


def test_a_failing_sink_reaches_the_caller_and_leaves_no_tap(lab, plain):
    def sink(name, block):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        backward_per_example(plain, collate(lab.random_examples(17, [5])), sink)
    assert not any("forward" in vars(module) for module in plain.modules())
    assert not any(p._backward_hooks for p in plain.parameters())


def test_no_examples_give_no_rows(plain):
    parameters = sum(p.numel() for p in plain.parameters())
    assert per_example_gradients(plain, []).shape == (0, parameters)
