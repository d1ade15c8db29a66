"""Which of a model's own layers give per-example gradients, and which are refused by name."""

import pytest
import torch
from torch import nn

from tis_ray.batches import collate
from tis_ray.errors import InputError
from tis_ray.gradients import backward_per_example, per_example_gradients

TIGHT = 2e-6


# --- layers of every kind ---------------------------------------------------------------------


class Softmaxed(nn.Module):
    """A vector that is not simply multiplied: whatever is computed from it, each example's is own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.softmax(self.gain, dim=0) * self.gain.mean() + self.shift


class Gated(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(32))
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) * self.weight


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.eye(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.kernel


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(32, 32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(32))

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return x * self.weight * gate


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(32), nn.RMSNorm(32), nn.LayerNorm(32, bias=False), Softmaxed(32)],
    ids=["LayerNorm", "RMSNorm", "LayerNorm without bias", "custom"],
)
def test_any_layer_with_vector_weights(lab, plain, norm):
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    plain.model.norm = norm
    examples = lab.random_examples(24, [5, 18, 2])
    truth, _ = lab.loop_gradients(plain, examples)
    assert lab.relative_error(per_example_gradients(plain, examples), truth) <= TIGHT
    lab.train_only(plain, "model.norm.")
    truth, _ = lab.loop_gradients(plain, examples)
    assert lab.relative_error(per_example_gradients(plain, examples), truth) <= TIGHT


def test_a_vector_that_two_layers_share(lab, plain, recorder):
    plain.model.norm.weight = plain.model.layers[0].input_layernorm.weight
    examples = lab.random_examples(24, [5, 18, 2])
    truth, _ = lab.loop_gradients(plain, examples)
    assert lab.relative_error(per_example_gradients(plain, examples), truth) <= TIGHT
    backward_per_example(plain, collate(examples), recorder()[1])


def test_the_row_of_a_padding_token_takes_no_part(lab, recorder):
    model = lab.build_full_model("llama", pad_token_id=7)
    examples = lab.random_examples(25, [9, 15])
    for example in examples:
        example["input_ids"][1] = 7
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT
    blocks, sink = recorder()
    backward_per_example(model, collate(examples), sink)
    assert (blocks["model.embed_tokens.weight"][:, 7] == 0).all()


def test_an_adapter_without_its_wrapper(lab):
    """`add_adapter` puts LoRA's linear layers into the model: linear layers like any other."""
    from peft import LoraConfig

    model = lab.build_full_model("llama")
    model.add_adapter(LoraConfig(r=4, target_modules=["q_proj", "lm_head"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    examples = lab.random_examples(26, [5, 18, 2])
    truth, _ = lab.loop_gradients(model, examples)
    assert truth.shape[1] == 4 * 64 * 2 + 4 * (32 + lab.vocabulary)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


# --- refusals ---------------------------------------------------------------------------------


def test_transposed_layers_are_refused_by_name(lab):
    model = lab.build_full_model("gpt2")
    with pytest.raises(InputError, match=r"'transformer\.h\.0\.attn\.c_attn.*' .*Conv1D"):
        per_example_gradients(model, lab.random_examples(20, [5]))


def test_scaled_embeddings_are_refused_by_name(lab):
    model = lab.build_full_model("gemma2")
    with pytest.raises(InputError, match=r"'model\.embed_tokens'.*ScaledWordEmbedding"):
        per_example_gradients(model, lab.random_examples(20, [5]))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Mixing(), r"'model\.norm\.kernel' .*'model\.norm', a Mixing"),
        (Convolution(), r"'model\.norm\.conv\.weight' .*'model\.norm\.conv', a Conv1d"),
        (Gated(nn.LayerNorm(32)), r"'model\.norm\.weight' .*'model\.norm', a Gated"),
    ],
)
def test_other_layers_are_refused_by_name(lab, plain, module, message):
    plain.model.norm = module
    with pytest.raises(InputError, match=message):
        per_example_gradients(plain, lab.random_examples(20, [5]))
    plain.model.norm.requires_grad_(False)
    lab.train_only(plain, "layers.1.")
    per_example_gradients(plain, lab.random_examples(20, [5]))


def test_a_layer_with_two_inputs_is_refused_by_name(lab, plain):
    plain.model.norm = TwoInputs()
    plain.model.norm.register_forward_pre_hook(lambda module, args: (args[0], args[0]))
    with pytest.raises(InputError, match=r"'model\.norm', a TwoInputs, takes more than one input"):
        per_example_gradients(plain, lab.random_examples(20, [5]))


@pytest.mark.parametrize("setting", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}])
def test_embeddings_that_do_more_than_look_up_are_refused(lab, plain, setting):
    plain.model.embed_tokens = nn.Embedding(lab.vocabulary, 32, **setting)
    with pytest.raises(InputError, match=r"'model\.embed_tokens'"):
        per_example_gradients(plain, lab.random_examples(20, [5]))


def test_a_weight_used_outside_its_layer_is_refused_by_name(lab, plain):
    """Autograd would put that part of its gradient into .grad, and the block would lack it."""
    weight = plain.model.embed_tokens.weight
    plain.lm_head.register_forward_hook(lambda module, args, out: out + args[0] @ weight.T)
    with pytest.raises(InputError, match=r"'model\.embed_tokens\.weight' is used outside"):
        per_example_gradients(plain, lab.random_examples(20, [5]))
    assert all(p.grad is None for p in plain.parameters())


def test_rows_that_cannot_be_told_apart_are_refused_by_name(lab, plain):
    layer = plain.model.layers[0].mlp.down_proj
    layer.register_forward_pre_hook(lambda module, args: (args[0].flatten(0, 1)[None],))
    layer.register_forward_hook(lambda module, args, out: out.view(2, -1, 32))
    with pytest.raises(
        InputError, match=r"'model\.layers\.0\.mlp\.down_proj'.* separated by example"
    ):
        per_example_gradients(plain, lab.random_examples(20, [5, 6]))


def test_flattened_rows_are_told_apart(lab, plain):
    shapes = {}

    def flatten(module, args):
        shapes[module] = args[0].shape
        return (args[0].flatten(0, 1),)

    for layer in (plain.model.layers[0].mlp.down_proj, plain.model.layers[1].input_layernorm):
        layer.register_forward_pre_hook(flatten)
        layer.register_forward_hook(lambda module, args, out: out.view(*shapes[module][:2], -1))
    examples = lab.random_examples(20, [5, 11])
    truth, _ = lab.loop_gradients(plain, examples)
    assert lab.relative_error(per_example_gradients(plain, examples), truth) <= TIGHT


def test_a_frozen_model_is_refused_with_advice(lab, plain):
    plain.requires_grad_(False)
    with pytest.raises(InputError, match=r"LlamaForCausalLM without trainable .*requires_grad_"):
        per_example_gradients(plain, lab.random_examples(20, [5]))


def test_models_of_other_libraries_are_refused(lab):
    with pytest.raises(InputError, match=r"Linear; .*AutoModelForCausalLM"):
        per_example_gradients(nn.Linear(2, 2), lab.random_examples(20, [5]))


def test_a_model_without_a_head_is_refused(lab, plain):
    with pytest.raises(InputError, match="not a causal language model"):
        per_example_gradients(plain.model, lab.random_examples(20, [5]))
