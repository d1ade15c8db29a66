"""Batched per-example gradients equal those of one example at a time."""

import weakref

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from tests.properties import tries
from tis_ray.batches import collate
from tis_ray.errors import InputError
from tis_ray.gradients import backward_per_example, per_example_gradients
from tis_ray.gradients.adam import adam_direction

TIGHT = 2e-6
LENGTHS = st.lists(st.integers(2, 24), min_size=1, max_size=7)


@tries(40, [HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    lengths=LENGTHS,
    shape=st.sampled_from([(32, 4), (32, 1), (48, 2)]),
    rank=st.sampled_from([4, 8]),
    targets=st.sampled_from(
        [("q_proj", "k_proj", "v_proj", "o_proj"), "all-linear", ("down_proj", "v_proj")]
    ),
    rslora=st.booleans(),
    tied=st.booleans(),
    token_budget=st.sampled_from([1, 40, 2048]),
)
def test_batched_gradients_equal_the_loop(
    lab, seed, lengths, shape, rank, targets, rslora, tied, token_budget
):
    model = lab.cached_model(*shape, rank, targets, rslora, tied)
    examples = lab.random_examples(seed, lengths)
    truth, _ = lab.loop_gradients(model, examples)
    found = per_example_gradients(model, examples, token_budget=token_budget)
    assert found.dtype == torch.float32
    assert lab.relative_error(found, truth) <= TIGHT


@tries(25, [HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    lengths=LENGTHS,
    shape=st.sampled_from([(32, 4), (32, 1), (48, 2)]),
    rank=st.sampled_from([1, 8, 128]),
    targets=st.sampled_from(
        [
            ("q_proj", "k_proj", "v_proj", "o_proj"),
            "all-linear",
            ("lm_head",),
            ("lm_head", "q_proj", "down_proj"),
        ]
    ),
    rslora=st.booleans(),
    tied=st.booleans(),
)
def test_every_rank_and_target_in_double_precision(
    lab, seed, lengths, shape, rank, targets, rslora, tied
):
    """With float64 weights, sums that cancel cost no digits, so that any adapter can be drawn."""
    model = lab.cached_model(*shape, rank, targets, rslora, tied, torch.float64)
    examples = lab.random_examples(seed, lengths)
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


@pytest.mark.parametrize("rank", [1, 128])
@pytest.mark.parametrize("rslora", [False, True])
def test_ranks_one_and_above_the_hidden_size(lab, rank, rslora):
    """Fixed examples: at rank 1 one sum that cancels can cost any method several digits."""
    model = lab.cached_model(32, 2, rank, "all-linear", rslora, False)
    examples = lab.random_examples(3, [5, 17, 9])
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("targets", [["lm_head"], ["lm_head", "q_proj", "up_proj"]])
def test_adapter_on_the_output_head(lab, targets, tied):
    model = lab.build_model(target_modules=targets, tied=tied)
    examples = lab.random_examples(1, [4, 20, 11, 2])
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


def test_rank_and_alpha_patterns(lab):
    model = lab.build_model(rank_pattern={"q_proj": 3}, alpha_pattern={"v_proj": 5})
    examples = lab.random_examples(5, [8, 13])
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


def test_other_architectures(lab):
    """GPT-2 keeps its weights transposed; Gemma 2 soft-caps its logits after the head."""
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(
        GPT2Config(vocab_size=lab.vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    )
    gemma2 = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=lab.vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=6,
            final_logit_softcapping=0.5,
            attn_implementation="eager",
        )
    )
    examples = lab.random_examples(9, [4, 23, 15])
    for base, targets in ((gpt2, ["c_attn", "c_proj"]), (gemma2, "all-linear")):
        model = get_peft_model(base, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        truth, _ = lab.loop_gradients(model, examples)
        assert lab.relative_error(per_example_gradients(model, examples), truth) <= TIGHT


def test_losses_equal_the_models_own(lab, small_model, recorder):
    examples = lab.random_examples(2, [3, 30, 12, 12, 7])
    _, truth = lab.loop_gradients(small_model, examples)
    losses = backward_per_example(small_model, collate(examples), recorder()[1])
    torch.testing.assert_close(losses, truth, rtol=1e-6, atol=0)


def test_golden_gradients_and_adam_directions(golden, lab):
    names = [name for name, p in golden.model.named_parameters() if p.requires_grad]
    assert names == golden.param_names.tolist()
    grads = per_example_gradients(golden.model, golden.examples)
    assert lab.relative_error(grads, torch.from_numpy(golden.sgd)) <= 1e-5
    adam = adam_direction(
        grads, torch.from_numpy(golden.exp_avg), torch.from_numpy(golden.exp_avg_sq)
    )
    assert lab.relative_error(adam, torch.from_numpy(golden.adam)) <= 1e-5


def test_golden_losses(golden, recorder):
    losses = backward_per_example(golden.model, collate(golden.examples), recorder()[1])
    torch.testing.assert_close(losses.double(), torch.from_numpy(golden.loss), rtol=1e-6, atol=0)


@tries(15)
@given(seed=st.integers(0, 2**31), lengths=LENGTHS, order=st.randoms(use_true_random=False))
def test_an_example_does_not_depend_on_its_batch(lab, seed, lengths, order):
    model = lab.cached_model(32, 2, 8, lab.attention, False, False)
    examples = lab.random_examples(seed, lengths)
    together = per_example_gradients(model, examples)
    alone = per_example_gradients(model, examples, batch_size=1)
    assert lab.relative_error(alone, together) <= TIGHT
    shuffled = list(range(len(examples)))
    order.shuffle(shuffled)
    again = per_example_gradients(model, [examples[i] for i in shuffled])
    assert lab.relative_error(again, together[shuffled]) <= TIGHT


def test_padding_changes_nothing(lab, small_model, recorder):
    examples = lab.random_examples(4, [6, 25])
    alone = recorder()
    backward_per_example(small_model, collate(examples[:1]), alone[1])
    for pad_id in (None, 0, 5):
        padded = recorder()
        backward_per_example(small_model, collate(examples, pad_id=pad_id), padded[1])
        for name, block in alone[0].items():
            torch.testing.assert_close(padded[0][name][:1], block, rtol=1e-5, atol=1e-7)


def test_the_same_batch_gives_the_same_bits(lab, small_model):
    examples = lab.random_examples(6, [6, 25, 13])
    first = per_example_gradients(small_model, examples)
    assert torch.equal(first, per_example_gradients(small_model, examples))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_poisoned_example_leaves_the_others_untouched(lab, recorder, poison):
    model = lab.build_model(target_modules="all-linear")
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


def test_a_poisoned_pad_token_reaches_no_example(lab, small_model):
    """Short examples are filled with their own tokens, so no other token's embedding is read."""
    examples = lab.random_examples(8, [9, 4, 21])
    used = {token for example in examples for token in example["input_ids"]}
    with torch.no_grad():
        for token in set(range(lab.vocabulary)) - used:
            small_model.get_input_embeddings().weight[token] = float("nan")
    assert torch.isfinite(per_example_gradients(small_model, examples)).all()


def test_block_sums_equal_autograds_weight_gradient(lab, small_model, recorder):
    examples = lab.random_examples(10, [15, 9, 22])
    truth, _ = lab.loop_gradients(small_model, examples)
    blocks, sink = recorder()
    backward_per_example(small_model, collate(examples), sink)
    names = [name for name, p in small_model.named_parameters() if p.requires_grad]
    assert sorted(blocks) == sorted(names)
    total = torch.cat([blocks[name].sum(dim=0).flatten() for name in names])
    assert lab.relative_error(total[None], truth.sum(dim=0)[None]) <= TIGHT
    assert lab.relative_error(total[None], lab.batch_gradient(small_model, examples)[None]) <= TIGHT


def test_finite_differences(lab):
    model = lab.build_model().double().eval()
    example = lab.random_examples(11, [14])[0]
    grads = per_example_gradients(model, [example])[0].double()
    parameters = [p for p in model.parameters() if p.requires_grad]
    tensors = {
        "input_ids": torch.tensor([example["input_ids"]]),
        "labels": torch.tensor([example["labels"]]),
    }
    offset = 0
    for parameter in parameters[:3]:
        position = int(grads[offset : offset + parameter.numel()].abs().argmax())
        losses = []
        with torch.no_grad():
            for step in (1e-3, -2e-3):
                parameter.view(-1)[position] += step
                losses.append(float(model(**tensors).loss))
            parameter.view(-1)[position] += 1e-3
        slope = (losses[0] - losses[1]) / 2e-3
        assert slope == pytest.approx(float(grads[offset + position]), rel=2e-3)
        offset += parameter.numel()


def test_frozen_half_of_the_adapter_is_left_out(lab, small_model):
    for name, parameter in small_model.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(False)
    examples = lab.random_examples(12, [5, 8])
    truth, _ = lab.loop_gradients(small_model, examples)
    assert lab.relative_error(per_example_gradients(small_model, examples), truth) <= TIGHT


def test_a_layer_used_twice_is_handed_over_once(lab, small_model):
    layers = small_model.get_base_model().model.layers
    layers[1] = layers[0]
    examples = lab.random_examples(13, [5, 18])
    truth, _ = lab.loop_gradients(small_model, examples)
    assert lab.relative_error(per_example_gradients(small_model, examples), truth) <= TIGHT


def test_an_unreached_layer_gives_zeros(lab, small_model):
    base = small_model.get_base_model()
    base.model.config.num_hidden_layers = 1
    examples = lab.random_examples(14, [5, 18])
    truth, _ = lab.loop_gradients(small_model, examples)
    assert (truth[:, truth.shape[1] // 2 :] == 0).all()
    found = per_example_gradients(small_model, examples)
    assert lab.relative_error(found, truth) <= TIGHT


def test_bfloat16_base_is_as_accurate_as_one_at_a_time(lab):
    model = lab.build_model(hidden=48)
    examples = lab.random_examples(15, [12, 30, 21])
    truth, _ = lab.loop_gradients(model, examples)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    singly, _ = lab.loop_gradients(model, examples)
    batched = per_example_gradients(model, examples)
    assert lab.relative_error(batched, truth) <= 1.25 * lab.relative_error(singly, truth)


def test_the_model_is_left_as_it_was(lab, small_model):
    examples = lab.random_examples(16, [5, 18])
    small_model.train()
    small_model.get_base_model().model.layers[0].eval()
    modes = {name: module.training for name, module in small_model.named_modules()}
    weights = {name: p.clone() for name, p in small_model.named_parameters()}
    with torch.no_grad():
        per_example_gradients(small_model, examples)
    assert modes == {name: module.training for name, module in small_model.named_modules()}
    assert all(torch.equal(weights[name], p) for name, p in small_model.named_parameters())
    assert all(p.grad is None for p in small_model.parameters())
    assert not any("forward" in vars(module) for module in small_model.modules())
    small_model(input_ids=torch.tensor([[1, 2]]))


def test_a_failing_sink_reaches_the_caller_and_leaves_no_tap(lab, small_model):
    def sink(name, block):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        backward_per_example(small_model, collate(lab.random_examples(17, [5])), sink)
    assert not any("forward" in vars(module) for module in small_model.modules())


def test_a_block_can_be_freed_as_soon_as_the_sink_returns(lab, small_model):
    blocks = []

    def sink(name, block):
        alive = sum(reference() is not None for reference in blocks)
        assert alive <= 2  # at most the layer's other weight, and the last call's argument
        blocks.append(weakref.ref(block))

    backward_per_example(small_model, collate(lab.random_examples(18, [5, 9])), sink)
    assert len(blocks) == 16


def test_an_example_without_label_tokens_is_named(lab, small_model):
    examples = lab.random_examples(19, [5, 9, 4])
    examples[1]["labels"] = [3] + [-100] * 8  # the first token's label never enters
    with pytest.raises(InputError, match="example 1: no label token"):
        per_example_gradients(small_model, examples)


def test_no_examples_give_no_rows(small_model):
    parameters = sum(p.numel() for p in small_model.parameters() if p.requires_grad)
    assert per_example_gradients(small_model, []).shape == (0, parameters)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["norm"]}, "modules_to_save"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "'.*embed_tokens'.*Embedding"),
        ({"lora_bias": True}, "has a LoRA bias"),
        ({"inference_mode": True}, "is_trainable=True"),
        ({"trainable_token_indices": [3]}, "is trainable but is not a LoRA weight"),
        ({"alora_invocation_tokens": [1]}, r"'.*q_proj' uses the LoRA variant ALora"),
        (
            {"target_parameters": ["q_proj.weight"], "target_modules": [], "lora_dropout": 0},
            r"'.*q_proj' is a LoRA ParamWrapper",
        ),
    ],
)
def test_other_adapters_are_refused_by_name(lab, lora, message):
    model = lab.build_model(**lora)
    examples = lab.random_examples(20, [5])
    with pytest.raises(InputError, match=message):
        per_example_gradients(model, examples)


def test_trained_biases_of_the_base_are_refused_by_name(lab):
    config = LoraConfig(r=2, target_modules=["q_proj"], bias="lora_only", task_type="CAUSAL_LM")
    model = get_peft_model(lab.build_full_model("qwen2"), config)
    with pytest.raises(InputError, match=r"q_proj\.base_layer\.bias' is trainable"):
        per_example_gradients(model, lab.random_examples(20, [5]))


def test_trainable_base_weights_are_refused_by_name(lab, small_model):
    small_model.get_base_model().model.norm.weight.requires_grad_(True)
    with pytest.raises(InputError, match=r"model\.norm\.weight"):
        per_example_gradients(small_model, lab.random_examples(20, [5]))


def test_merged_and_disabled_adapters_are_refused(lab, small_model):
    examples = lab.random_examples(20, [5])
    small_model.merge_adapter()
    with pytest.raises(InputError, match="merged"):
        per_example_gradients(small_model, examples)
    small_model.unmerge_adapter()
    with small_model.disable_adapter(), pytest.raises(InputError):
        per_example_gradients(small_model, examples)


def test_adapters_that_are_not_lora_are_refused(lab):
    examples = lab.random_examples(20, [5])
    layers = {"target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    for config, message in (
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PROMPT_TUNING"),
        (IA3Config(feedforward_modules=["down_proj"], **layers), "IA3"),
        (LoHaConfig(**layers), "LOHA"),
        (AdaLoraConfig(total_step=10, **layers), "ADALORA"),
        (VeraConfig(**layers), "VERA"),
    ):
        model = get_peft_model(lab.build_full_model("llama"), config)
        with pytest.raises(InputError, match=f"type {message}; only LORA"):
            per_example_gradients(model, examples)


def test_more_than_one_active_adapter_is_refused(lab, small_model):
    small_model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    small_model.base_model.set_adapter(["default", "second"])
    with pytest.raises(InputError, match=r"2 active adapters .*second"):
        per_example_gradients(small_model, lab.random_examples(20, [5]))


def test_only_the_active_adapter_counts(lab, small_model):
    """Another adapter that is loaded but not active plays no part."""
    examples = lab.random_examples(20, [5, 9])
    before = per_example_gradients(small_model, examples)
    small_model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))
    small_model.set_adapter("default")
    assert torch.equal(per_example_gradients(small_model, examples), before)
