"""Examples packed end to end give the gradients that they give alone."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from tests.properties import tries
from tis_ray.batches import batch_losses, check_packing, collate, packing
from tis_ray.batches.segments import Segments
from tis_ray.errors import InputError
from tis_ray.gradients import backward_per_example, per_example_gradients

TIGHT = 2e-6
LENGTHS = st.lists(st.integers(2, 24), min_size=1, max_size=7)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "head_dim": 8,
}

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def build_base(kind: str, **changes: Any):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SHAPE | changes))).eval()


def with_lora(base, targets: Any = "all-linear", rank: int = 4):
    config = LoraConfig(r=rank, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


# --- the same gradients -----------------------------------------------------------------------


@tries(30, [HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    lengths=LENGTHS,
    shape=st.sampled_from([(32, 4), (32, 1), (48, 2)]),
    rank=st.sampled_from([4, 8]),
    targets=st.sampled_from([ATTENTION, "all-linear", ("lm_head", "down_proj")]),
    rslora=st.booleans(),
    tied=st.booleans(),
    token_budget=st.sampled_from([1, 40, 2048]),
)
def test_packed_gradients_equal_the_loop_and_the_padded_ones(
    lab, seed, lengths, shape, rank, targets, rslora, tied, token_budget
):
    model = lab.cached_model(*shape, rank, targets, rslora, tied)
    examples = lab.random_examples(seed, lengths)
    truth, _ = lab.loop_gradients(model, examples)
    found = per_example_gradients(model, examples, token_budget=token_budget, packed=True)
    assert lab.relative_error(found, truth) <= TIGHT
    assert lab.relative_error(found, per_example_gradients(model, examples)) <= TIGHT


@tries(15, [HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    lengths=LENGTHS,
    rank=st.sampled_from([1, 8, 128]),
    targets=st.sampled_from([ATTENTION, ("lm_head",), ("lm_head", "q_proj", "down_proj")]),
)
def test_every_rank_and_target_in_double_precision(lab, seed, lengths, rank, targets):
    model = lab.cached_model(32, 2, rank, targets, False, False, torch.float64)
    examples = lab.random_examples(seed, lengths)
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples, packed=True), truth) <= TIGHT


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}),
        ("qwen3", {}),
        ("gpt_neox", {}),
        ("phi", {}),
        ("gpt2", {"n_positions": 64}),  # learned positions, transposed weights
        ("gemma2", {"attn_logit_softcapping": None, "pad_token_id": None}),
        ("mistral", {"sliding_window": 24}),
    ],
    ids=str,
)
def test_architectures(lab, kind, changes):
    targets = ["c_attn", "c_proj"] if kind == "gpt2" else "all-linear"
    model = with_lora(build_base(kind, **changes), targets)
    examples = lab.random_examples(9, [4, 23, 15, 2, 15])
    truth, _ = lab.loop_gradients(model, examples)
    assert lab.relative_error(per_example_gradients(model, examples, packed=True), truth) <= TIGHT


def test_losses_equal_the_models_own(lab, small_model, recorder):
    examples = lab.random_examples(2, [3, 30, 12, 12, 7])
    _, truth = lab.loop_gradients(small_model, examples)
    batch = collate(examples, packed=True)
    losses = backward_per_example(small_model, batch, recorder()[1])
    torch.testing.assert_close(losses, truth, rtol=1e-6, atol=0)


def test_losses_of_a_model_without_an_adapter(lab):
    model = build_base("llama")
    examples = lab.random_examples(2, [3, 30, 12, 12, 7])
    with torch.inference_mode():
        found = batch_losses(model, collate(examples, packed=True))
        truth = batch_losses(model, collate(examples))
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=0)


def test_bfloat16_base_is_as_accurate_as_one_at_a_time(lab):
    model = lab.build_model(hidden=48)
    examples = lab.random_examples(15, [12, 30, 21])
    truth, _ = lab.loop_gradients(model, examples)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    singly, _ = lab.loop_gradients(model, examples)
    packed = per_example_gradients(model, examples, packed=True)
    assert lab.relative_error(packed, truth) <= 1.25 * lab.relative_error(singly, truth)


@pytest.mark.parametrize("targets", ["all-linear", ["lm_head", "down_proj"]])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_seeded_dropout_has_the_masks_of_padded_batches(lab, targets, rate):
    model = lab.build_model(target_modules=targets, lora_dropout=rate)
    examples = lab.random_examples(4, [6, 25, 13, 2])
    padded = per_example_gradients(model, examples, dropout_seeds=[1, 2, 3, 4])
    packed = per_example_gradients(model, examples, dropout_seeds=[1, 2, 3, 4], packed=True)
    assert lab.relative_error(packed, padded) <= TIGHT
    off = per_example_gradients(model, examples, packed=True)
    assert lab.relative_error(off, packed) > 0.05


@pytest.mark.parametrize("seeds", [None, [1, 2]])
def test_rows_without_a_batch_dimension_are_taken_too(lab, seeds):
    model = lab.build_model(target_modules=["down_proj"])
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    examples = lab.random_examples(4, [6, 25])
    truth = per_example_gradients(model, examples, dropout_seeds=seeds, packed=True)
    layer.register_forward_pre_hook(lambda module, args: (args[0].flatten(0, 1),))
    layer.register_forward_hook(lambda module, args, out: out[None])
    found = per_example_gradients(model, examples, dropout_seeds=seeds, packed=True)
    assert torch.equal(found, truth)


# --- no example reaches another ---------------------------------------------------------------


@tries(20)
@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(2, 24), min_size=2, max_size=6),
    order=st.randoms(use_true_random=False),
    budget=st.sampled_from([30, 60, 2048]),
)
def test_an_example_does_not_depend_on_its_batch(lab, seed, lengths, order, budget):
    model = lab.cached_model(32, 2, 8, ("lm_head", "q_proj", "down_proj"), False, False)
    examples = lab.random_examples(seed, lengths)
    together = per_example_gradients(model, examples, packed=True)
    shuffled = list(range(len(examples)))
    order.shuffle(shuffled)
    moved = [examples[i] for i in shuffled]
    again = per_example_gradients(model, moved, token_budget=budget, packed=True)
    assert lab.relative_error(again, together[shuffled]) <= TIGHT


@pytest.mark.parametrize("changed", [0, 1, 3])
def test_other_tokens_in_an_example_change_no_bit_of_the_others(lab, changed):
    model = lab.cached_model(32, 2, 8, ("lm_head", "q_proj", "down_proj"), False, False)
    examples = lab.random_examples(8, [9, 4, 21, 12])
    before = per_example_gradients(model, examples, packed=True)
    ids = examples[changed]["input_ids"]
    examples[changed]["input_ids"] = [(token + 7) % lab.vocabulary for token in ids]
    after = per_example_gradients(model, examples, packed=True)
    others = [i for i in range(4) if i != changed]
    assert torch.equal(after[others], before[others])
    assert lab.relative_error(after[[changed]], before[[changed]]) > 0.05


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("targets", ["all-linear", ["lm_head", "q_proj"]])
@pytest.mark.parametrize("seeds", [None, [1, 2, 3, 4]])
def test_a_poisoned_example_leaves_the_others_untouched(lab, recorder, poison, targets, seeds):
    model = lab.build_model(target_modules=targets)
    examples = lab.random_examples(8, [9, 4, 21, 12])
    examples[3] = {"input_ids": [7, 60] + [7] * 10, "labels": [-100] + [7] * 11}
    for other in (0, 1, 2):
        ids = examples[other]["input_ids"]
        examples[other]["input_ids"] = [1 if token == 60 else token for token in ids]
    clean = per_example_gradients(model, examples, dropout_seeds=seeds, packed=True)
    with torch.no_grad():
        model.get_input_embeddings().weight[60] = poison
    # The order of a plan is that of the lengths: the poisoned one lies between others.
    found = per_example_gradients(model, examples, dropout_seeds=seeds, packed=True)
    assert torch.isnan(found[3]).any()
    assert torch.equal(found[:3], clean[:3])
    batch = collate(examples, packed=True)
    losses = backward_per_example(model, batch, recorder()[1], seeds)
    assert torch.isfinite(losses).tolist() == [True, True, True, False]


# --- the model afterwards ---------------------------------------------------------------------


def test_the_model_has_its_own_attention_again(lab, small_model):
    config = small_model.get_base_model().config
    examples = lab.random_examples(16, [5, 18])
    padded = per_example_gradients(small_model, examples)
    for own in ("sdpa", "eager"):
        small_model.get_base_model().set_attn_implementation(own)
        seen = []
        attention = small_model.get_base_model().model.layers[0].self_attn
        hook = attention.register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(module.config._attn_implementation)
        )
        per_example_gradients(small_model, examples, packed=True)
        hook.remove()
        assert packing.NAME in seen
        assert config._attn_implementation == own
    small_model.get_base_model().set_attn_implementation("sdpa")
    assert torch.equal(per_example_gradients(small_model, examples), padded)


def test_a_failure_leaves_the_models_own_attention(lab, small_model):
    examples = lab.random_examples(17, [5, 9])
    config = small_model.get_base_model().config
    layer = small_model.get_base_model().model.layers[1]

    def failing(*_args):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        backward_per_example(small_model, collate(examples, packed=True), failing)
    assert config._attn_implementation == "sdpa"
    # In the check, and in the pass itself.
    for model in (small_model, lab.build_model()):
        layer = model.get_base_model().model.layers[1]
        if model is not small_model:
            check_packing(model.get_base_model(), 9)
        hook = layer.register_forward_pre_hook(failing)
        with pytest.raises(OSError, match="disk full"):
            per_example_gradients(model, examples, packed=True)
        hook.remove()
        assert model.get_base_model().config._attn_implementation == "sdpa"
        assert not any("forward" in vars(module) for module in model.modules())


def test_the_check_is_made_once_and_leaves_no_trace(lab, small_model):
    base = small_model.get_base_model()
    small_model.train()
    before = torch.get_rng_state()
    calls = []
    hook = base.model.register_forward_pre_hook(lambda *_: calls.append(1))
    check_packing(base, 9)
    assert len(calls) == 2
    for longest in (9, 2, 5):
        check_packing(base, longest)
    assert len(calls) == 2
    check_packing(base, 10)
    assert len(calls) == 4
    hook.remove()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in small_model.modules())
    assert not base.get_input_embeddings()._forward_hooks


def test_a_token_whose_embedding_is_no_number_does_not_spoil_the_check(lab, small_model):
    with torch.no_grad():
        small_model.get_input_embeddings().weight[:40:2] = float("nan")
    check_packing(small_model.get_base_model(), 30)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("mistral", {"sliding_window": 6}, r"MistralForCausalLM .* has a window in which 7 tokens"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
            r"Qwen2ForCausalLM .* has a window in which 7 tokens do not see each other",
        ),
        ("gemma2", {}, r"Gemma2ForCausalLM .* gives its attention 'softcap'"),
        (
            "gpt_oss",
            {"num_local_experts": 4, "num_experts_per_tok": 2},
            r"GptOssForCausalLM .* gives its attention 's_aux'",
        ),
        ("bloom", {}, r"BloomForCausalLM .* takes no position_ids"),
        (
            "gptj",
            {"n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 4, "n_positions": 64},
            r"GPTJForCausalLM .* does not use the attention interface",
        ),
        (
            "lfm2",
            {"layer_types": ["full_attention", "conv"]},
            r"Lfm2ForCausalLM .* mixes tokens of different examples outside attention",
        ),
    ],
)
def test_models_that_cannot_be_packed_are_refused_by_name(lab, kind, changes, message):
    model = build_base(kind, **changes)
    own = model.config._attn_implementation
    with pytest.raises(InputError, match=message + r".*\(packed: false"):
        check_packing(model, 7)
    with pytest.raises(InputError, match=message):
        batch_losses(model, collate(lab.random_examples(1, [4, 8]), packed=True))
    assert model.config._attn_implementation == own


def test_a_window_that_no_example_fills_is_no_obstacle():
    model = build_base("mistral", sliding_window=6)
    check_packing(model, 6)
    with pytest.raises(InputError, match="window in which 7 tokens"):
        check_packing(model, 7)
    check_packing(model, 6)


def test_positions_that_are_not_taken_are_found(monkeypatch):
    model = build_base("gpt2", n_positions=64)
    plain = type(model.transformer).forward

    def forward(self, input_ids, position_ids=None, **kwargs):
        return plain(self, input_ids, **kwargs)

    monkeypatch.setattr(type(model.transformer), "forward", forward)
    with pytest.raises(
        InputError, match=r"GPT2LMHeadModel .*different hidden states packed than alone"
    ):
        check_packing(model, 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_mask": torch.ones(1)}, "makes an attention mask of its own"),
        ({"dropout": 0.1}, "drops attention weights"),
        ({"is_causal": False}, "lets tokens see later ones"),
        ({"sliding_window": 3}, "has a window of 3 tokens, fewer than the 4"),
        ({"position_bias": torch.ones(1)}, "'position_bias', which packed attention ignores"),
        ({"query": torch.ones(2, 2, 6, 8)}, "rows other than the tokens"),
    ],
)
def test_what_an_attention_layer_may_not_ask_for(changes, message):
    given_ = {"attention_mask": None, "query": torch.ones(1, 2, 6, 8), "output_attentions": False}
    given_ |= {"key": torch.ones(1, 2, 6, 8), "value": torch.ones(1, 2, 6, 8), **changes}
    token = packing._current.set(packing._PackedPass("Model", Segments.of([2, 4])))
    try:
        with pytest.raises(InputError, match=message):
            packing._attention(torch.nn.Identity(), **given_)
    finally:
        packing._current.reset(token)


def test_attention_dropout_is_an_obstacle_in_training_alone():
    base = build_base("llama", attention_dropout=0.1)
    check_packing(base, 8)
    with pytest.raises(InputError, match="drops attention weights while it trains"):
        check_packing(base, 8, training=True)
    assert not base.training


def test_a_model_that_sees_later_tokens_is_refused():
    model = build_base("llama", is_causal=False)
    with pytest.raises(InputError, match="lets tokens see later ones"):
        check_packing(model, 5)


def test_full_parameter_gradients_are_padded_only(lab, plain):
    with pytest.raises(InputError, match=r"LlamaForCausalLM has no LoRA adapter.*packed"):
        per_example_gradients(plain, lab.random_examples(1, [5]), packed=True)


def test_a_layer_that_sees_other_rows_is_refused_by_name(lab):
    model = lab.build_model(target_modules=["down_proj"])
    examples = lab.random_examples(4, [6, 25])
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    check_packing(model.get_base_model(), 25)
    layer.register_forward_pre_hook(lambda module, args: (args[0].repeat(2, 1, 1),))
    layer.register_forward_hook(lambda module, args, out: out[:1])
    with pytest.raises(InputError, match=r"down_proj' gets input rows of shape \(2, .*packed"):
        per_example_gradients(model, examples, packed=True)


# --- the two implementations of attention -----------------------------------------------------


def attention_inputs(lengths: list[int], device: str = "cpu", dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, heads, sum(lengths), 16) for heads in (4, 2, 2)]
    tensors = [torch.randn(size, generator=generator) for size in sizes]
    tensors = [x.to(device, dtype).requires_grad_() for x in tensors]
    return *tensors, Segments.of(lengths, device)


def test_attention_equals_a_masked_one_over_the_whole_row():
    q, k, v, segments = attention_inputs([5, 1, 9])
    owners, places = segments.examples_R, segments.positions_R
    mask = (owners[:, None] == owners) & (places[:, None] >= places)
    truth = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    found = packing._one_by_one(q, k, v, segments, 0.3)
    torch.testing.assert_close(found, truth.transpose(1, 2))


def test_varlen_attention_is_called_with_what_it_documents(monkeypatch):
    """On rows as it gets them; the kernel itself runs on a GPU only."""

    def kernel(
        q, k, v, q_bounds, k_bounds, q_longest, k_longest, *, scale, window_size, enable_gqa
    ):
        assert q_bounds.dtype == torch.int32
        assert torch.equal(q_bounds, k_bounds)
        assert (q_longest, k_longest, window_size, enable_gqa) == (9, 9, (-1, 0), True)
        pieces = []
        for start, end in pairwise(q_bounds):
            own = [x[start:end].transpose(0, 1) for x in (q, k, v)]
            piece = torch.nn.functional.scaled_dot_product_attention(
                *own, is_causal=True, scale=scale, enable_gqa=enable_gqa
            )
            pieces.append(piece.transpose(0, 1))
        return torch.cat(pieces)

    q, k, v, segments = attention_inputs([5, 1, 9])
    monkeypatch.setattr(packing, "varlen_attn", kernel)
    found = packing._varlen(q, k, v, segments, 0.3)
    torch.testing.assert_close(found, packing._one_by_one(q, k, v, segments, 0.3))


@pytest.mark.skipif(not packing._HAS_VARLEN, reason="this torch has no varlen_attn as we call it")
def test_the_installed_varlen_attention_takes_our_call_and_its_backward():
    """Shapes alone, without a kernel."""
    segments = Segments.of([5, 1, 9])
    with FakeTensorMode(allow_non_fake_inputs=True):
        q, k, v = (torch.empty(1, h, 15, 16, dtype=torch.bfloat16) for h in (4, 2, 2))
        inputs = [x.requires_grad_() for x in (q, k, v)]
        out = packing._varlen(*inputs, segments, None)
        assert out.shape == (1, 15, 4, 16)
        grads = torch.autograd.grad(out.sum(), inputs)
    assert [grad.shape for grad in grads] == [x.shape for x in (q, k, v)]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.skipif(not packing._HAS_VARLEN, reason="this torch has no varlen_attn as we call it")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_a_gpu_varlen_attention_equals_the_reference(dtype):
    lengths = [5, 1, 130, 64, 300]
    q, k, v, segments = attention_inputs(lengths, "cuda", dtype)
    assert packing._flash_takes(q, v)
    found = packing._varlen(q, k, v, segments, None)
    grads = torch.autograd.grad(found.float().square().sum(), (q, k, v))
    *exact, segments = attention_inputs(lengths)
    truth = packing._one_by_one(*exact, segments, None)
    true_grads = torch.autograd.grad(truth.square().sum(), exact)
    for one, other in zip((found, *grads), (truth, *true_grads), strict=True):
        pair = one.detach().float().cpu().flatten(), other.detach().flatten()
        assert torch.nn.functional.cosine_similarity(*pair, dim=0) > 0.999


@pytest.mark.parametrize("lengths", [[5, 1, 13, 6, 30], [7, 7, 7], [4]])
def test_attention_side_by_side_equals_the_reference(lengths):
    q, k, v, segments = attention_inputs(lengths)
    results = []
    for attend in (packing._side_by_side, packing._one_by_one):
        found = attend(q, k, v, segments, None)
        results.append((found, *torch.autograd.grad(found.square().sum(), (q, k, v))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_packed_gradients_in_bfloat16_equal_those_of_the_cpu(lab):
    model = lab.build_model(hidden=64, heads=4, target_modules="all-linear")
    examples = lab.random_examples(1, [40, 7, 90, 90, 23])
    truth, _ = lab.loop_gradients(model, examples)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    model.to("cuda")
    packed = per_example_gradients(model, examples, packed=True)
    padded = per_example_gradients(model, examples)
    cosines = torch.nn.functional.cosine_similarity(packed, truth)
    assert cosines.min() > 0.995
    assert lab.relative_error(packed, truth) <= 1.5 * lab.relative_error(padded, truth)


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_a_poisoned_example_leaves_the_others_untouched(lab):
    model = lab.build_model(target_modules="all-linear").to("cuda")
    model.get_base_model().bfloat16()
    examples = lab.random_examples(8, [90, 40, 210, 100])
    clean_ids = [[1 if t == 60 else t for t in e["input_ids"]] for e in examples]
    for example, ids in zip(examples, clean_ids, strict=True):
        example["input_ids"] = ids
    examples[3]["input_ids"][1] = 60
    clean = per_example_gradients(model, examples, packed=True)
    with torch.no_grad():
        model.get_input_embeddings().weight[60] = float("nan")
    found = per_example_gradients(model, examples, packed=True)
    assert torch.isnan(found[3]).any()
    # Not to the bit: the kernel adds up the queries' gradients in no fixed order.
    assert lab.relative_error(found[:3], clean[:3]) <= 0.01
