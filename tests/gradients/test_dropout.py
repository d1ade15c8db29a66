"""Seeded dropout: masks that belong to an example, and gradients that account for them."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from peft.tuners.lora import LoraLayer
from torch import nn

from tests.gradients.integer_hash import digest_words, grid_word
from tests.properties import tries
from tis_ray.batches import collate
from tis_ray.errors import InputError
from tis_ray.gradients import backward_per_example, dropout, per_example_gradients
from tis_ray.gradients.dropout import keep_mask

TIGHT = 2e-6
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
GOLDEN_MASK = "######.#####.#.#########.###.####...#.#"


def mask(seed: int, tokens: int, features: int, rate: float, name: str = LAYER) -> torch.Tensor:
    """One example's mask, (T, features)."""
    return keep_mask([seed], name, torch.arange(tokens)[None], features, rate)[0]


# --- the masks --------------------------------------------------------------------------------


def test_the_masks_never_change():
    """Stored features depend on these bits, as on those of the sketch."""
    found = "".join(".#"[bit] for bit in mask(7, 3, 13, 0.25).int().flatten().tolist())
    assert dropout.DROPOUT_VERSION == "tis/dropout/v1"
    assert found == GOLDEN_MASK


@tries(30)
@given(
    seeds=st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=3),
    rate=st.floats(0.01, 0.99),
    first=st.integers(0, 5000),
)
def test_a_mask_is_its_explicit_formula(seeds, rate, first):
    positions = torch.arange(first, first + 4).expand(len(seeds), -1)
    found = keep_mask(seeds, LAYER, positions, 5, rate)
    for seed, kept in zip(seeds, found.tolist(), strict=True):
        words = digest_words(f"tis/dropout/v1|{seed}|{LAYER}")[:2]
        assert kept == [
            [grid_word(position, feature, *words) >= round(rate * 2**32) for feature in range(5)]
            for position in range(first, first + 4)
        ]


def test_chunks_do_not_matter(monkeypatch):
    whole = mask(1, 30, 40, 0.3)
    for chunk in (1, 100, 130):
        monkeypatch.setattr(dropout, "_CHUNK_CPU", chunk)
        assert torch.equal(mask(1, 30, 40, 0.3), whole)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_masks_drop_at_the_rate(rate):
    """Over seeds at every single place, and over the places of a single mask."""
    seeds, tokens, features = 2000, 6, 7
    positions = torch.arange(tokens).expand(seeds, -1)
    dropped = 1 - keep_mask(range(seeds), LAYER, positions, features, rate).double()
    deviation = math.sqrt(rate * (1 - rate) / seeds)
    assert float((dropped.mean(dim=0) - rate).abs().max()) < 4.5 * deviation
    assert abs(float(dropped.mean()) - rate) < 4 * deviation / math.sqrt(tokens * features)
    single = 1 - mask(3, 300, 300, rate).double()
    assert abs(float(single.mean()) - rate) < 4 * math.sqrt(rate * (1 - rate)) / 300


def test_masks_of_other_seeds_layers_tokens_and_features_are_independent():
    base = mask(11, 256, 256, 0.5).double() - 0.5
    others = {
        "seed": mask(12, 256, 256, 0.5),
        "layer": mask(11, 256, 256, 0.5, LAYER.replace("q_proj", "k_proj")),
        "token": mask(11, 257, 256, 0.5)[1:],
        "feature": mask(11, 256, 257, 0.5)[:, 1:],
    }
    for what, other in others.items():
        correlation = float((base * (other.double() - 0.5)).mean()) * 4
        assert abs(correlation) < 4 / 256, what


# --- gradients --------------------------------------------------------------------------------


class Masked(nn.Module):
    """What PEFT's dropout module would do, had it drawn this mask."""

    def __init__(self, kept: torch.Tensor, rate: float) -> None:
        super().__init__()
        self.scaled = kept[None] / (1 - rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scaled


def masked_loop(lab, model, examples, seeds):
    """One example at a time through PEFT's own layers, with explicit masks in their dropout."""
    rows, losses = [], []
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    kept_modules = {name: layer.lora_dropout["default"] for name, layer in layers.items()}
    for example, seed in zip(examples, seeds, strict=True):
        for name, layer in layers.items():
            rate = kept_modules[name].p
            own = mask(seed, len(example["input_ids"]), layer.in_features, rate, name)
            layer.lora_dropout["default"] = Masked(own, rate)
        row, loss = lab.loop_gradients(model, [example])
        rows.append(row)
        losses.append(loss)
    for name, layer in layers.items():
        layer.lora_dropout["default"] = kept_modules[name]
    return torch.cat(rows), torch.cat(losses)


@tries(20, [HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(2, 24), min_size=1, max_size=5),
    dropout_seed=st.integers(-(2**40), 2**40),
    targets=st.sampled_from(
        [("q_proj", "k_proj", "v_proj", "o_proj"), "all-linear", ("lm_head", "down_proj")]
    ),
    rslora=st.booleans(),
    token_budget=st.sampled_from([1, 40, 2048]),
)
def test_gradients_equal_the_loop_with_explicit_masks(
    lab, recorder, seed, lengths, dropout_seed, targets, rslora, token_budget
):
    """The head sees some positions only; its mask is that of the tokens they belong to."""
    model = lab.cached_model(32, 2, 8, targets, rslora, False)
    examples = lab.random_examples(seed, lengths)
    seeds = [dropout_seed + index for index in range(len(examples))]
    truth, losses = masked_loop(lab, model, examples, seeds)
    found = per_example_gradients(model, examples, None, token_budget, dropout_seeds=seeds)
    assert lab.relative_error(found, truth) <= TIGHT
    batch_losses = backward_per_example(model, collate(examples), recorder()[1], seeds)
    torch.testing.assert_close(batch_losses, losses, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rank", [1, 128])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_ranks_and_rates(lab, rank, rate):
    model = lab.build_model(r=rank, lora_dropout=rate, target_modules="all-linear")
    examples = lab.random_examples(3, [5, 17, 9])
    truth, _ = masked_loop(lab, model, examples, [4, 5, 6])
    found = per_example_gradients(model, examples, dropout_seeds=[4, 5, 6])
    assert lab.relative_error(found, truth) <= TIGHT


def test_flattened_rows_have_the_masks_of_their_tokens(lab):
    model = lab.build_model(target_modules=["down_proj"])
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    examples = lab.random_examples(4, [6, 25])
    truth = per_example_gradients(model, examples, dropout_seeds=[1, 2])
    layer.register_forward_pre_hook(lambda module, args: (args[0].flatten(0, 1),))
    layer.register_forward_hook(lambda module, args, out: out.view(2, -1, 32))
    assert torch.equal(per_example_gradients(model, examples, dropout_seeds=[1, 2]), truth)


@tries(15)
@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(2, 24), min_size=2, max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_an_example_does_not_depend_on_its_batch(lab, seed, lengths, order):
    model = lab.cached_model(32, 2, 8, ("lm_head", "q_proj", "down_proj"), False, False)
    examples = lab.random_examples(seed, lengths)
    seeds = [seed + 3 * index for index in range(len(examples))]
    together = per_example_gradients(model, examples, dropout_seeds=seeds)
    alone = per_example_gradients(model, examples, batch_size=1, dropout_seeds=seeds)
    assert lab.relative_error(alone, together) <= TIGHT
    shuffled = list(range(len(examples)))
    order.shuffle(shuffled)
    again = per_example_gradients(
        model, [examples[i] for i in shuffled], dropout_seeds=[seeds[i] for i in shuffled]
    )
    assert lab.relative_error(again, together[shuffled]) <= TIGHT


def test_the_seed_decides(lab, small_model):
    """The same example under the same seed gives the same bits, under another something else."""
    example = lab.random_examples(5, [16])[0]
    same, again, other, off = (
        per_example_gradients(small_model, [example, example], dropout_seeds=seeds)
        for seeds in ([1, 1], [1, 1], [1, 2], None)
    )
    assert torch.equal(same, again)
    assert lab.relative_error(same[:1], same[1:]) <= TIGHT
    assert torch.equal(other[0], same[0])
    assert lab.relative_error(other[1:], same[1:]) > 0.05
    assert lab.relative_error(off, same) > 0.05


def test_rate_zero_is_no_dropout(lab):
    model = lab.build_model(lora_dropout=0.0)
    examples = lab.random_examples(6, [6, 25, 13])
    seeded = per_example_gradients(model, examples, dropout_seeds=[1, 2, 3])
    assert torch.equal(seeded, per_example_gradients(model, examples))


def test_training_mode_and_the_generator_play_no_part(lab, small_model):
    examples = lab.random_examples(7, [6, 25])
    before = torch.get_rng_state()
    small_model.eval()
    first = per_example_gradients(small_model, examples, dropout_seeds=[1, 2])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    small_model.train()
    assert torch.equal(per_example_gradients(small_model, examples, dropout_seeds=[1, 2]), first)
    assert all(module.training for module in small_model.modules())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_poisoned_example_leaves_the_others_untouched(lab, poison):
    model = lab.build_model(target_modules="all-linear")
    examples = lab.random_examples(8, [9, 4, 21])
    examples[1] = {"input_ids": [7, 60, 7, 7], "labels": [-100, 7, 7, 7]}
    for other in (0, 2):
        ids = examples[other]["input_ids"]
        examples[other]["input_ids"] = [1 if token == 60 else token for token in ids]
    clean = per_example_gradients(model, examples, dropout_seeds=[1, 2, 3])
    with torch.no_grad():
        model.get_input_embeddings().weight[60] = poison
    found = per_example_gradients(model, examples, dropout_seeds=[1, 2, 3])
    assert torch.isnan(found[1]).any()
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [[], [1], [1, 2, 3]])
def test_another_number_of_seeds_is_refused(lab, small_model, recorder, seeds):
    examples = lab.random_examples(9, [5, 8])
    message = f"{len(seeds)} dropout_seeds for 2 examples"
    with pytest.raises(InputError, match=message):
        per_example_gradients(small_model, examples, dropout_seeds=seeds)
    with pytest.raises(InputError, match=message):
        backward_per_example(small_model, collate(examples), recorder()[1], seeds)


def test_seeds_for_a_model_without_lora_are_refused(lab):
    model = lab.build_full_model("llama")
    with pytest.raises(InputError, match=r"LlamaForCausalLM has no LoRA adapter"):
        per_example_gradients(model, lab.random_examples(9, [5]), dropout_seeds=[1])
