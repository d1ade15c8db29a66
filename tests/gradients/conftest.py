"""Small random models, random examples, and the loop that every batched result must equal."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "less"
VOCABULARY = 61
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_model(
    hidden: int = 32,
    heads: int = 4,
    kv_heads: int = 2,
    tied: bool = False,
    seed: int = 0,
    **lora: Any,
) -> PeftModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        initializer_range=0.1,
    )
    # An adapter of moderate size at every rank: one that swamps its base model makes gradients so
    # ill-conditioned that the loop itself is off by more than the tolerance of the comparison.
    rank = lora.setdefault("r", 8)
    alpha = 2 * (rank**0.5 if lora.get("use_rslora") else rank)
    lora = {"lora_alpha": alpha, "target_modules": list(ATTENTION), "lora_dropout": 0.1} | lora
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(task_type="CAUSAL_LM", **lora))
    for name, parameter in model.named_parameters():
        # B starts at zero, which would make every gradient of A zero.
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3 / rank**0.5)
    return model


@cache
def cached_model(
    hidden: int,
    kv_heads: int,
    rank: int,
    targets: Any,
    rslora: bool,
    tied: bool,
    dtype: torch.dtype = torch.float32,
):
    names = list(targets) if isinstance(targets, tuple) else targets
    model = build_model(
        hidden=hidden, kv_heads=kv_heads, r=rank, target_modules=names, use_rslora=rslora, tied=tied
    )
    return model.to(dtype)


FULL_MODELS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "llama, tied": {"model_type": "llama", "tie_word_embeddings": True},
    # Biases of q, k and v; a norm of each head's queries and keys; LayerNorms and biases everywhere.
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": False, "head_dim": 8},
    "gpt_neox": {"model_type": "gpt_neox", "tie_word_embeddings": False},
    "phi": {"model_type": "phi", "tie_word_embeddings": False},
    "gpt2": {"model_type": "gpt2", "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0},
    "gemma2": {"model_type": "gemma2", "head_dim": 8},
}


def build_full_model(kind: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A model without an adapter, all of whose parameters train."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.1,
    }
    settings = shape | FULL_MODELS[kind] | changes
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        # Norms start at 1 and biases at 0, where mistakes in their formulas would not show.
        if parameter.dim() == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@cache
def cached_full_model(kind: str) -> PreTrainedModel:
    return build_full_model(kind)


def train_only(model: torch.nn.Module, *parts: str) -> list[str]:
    """Freeze what has none of these in its name; returns the names of the rest."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def random_examples(seed: int, lengths: list[int]) -> list[dict[str, list[int]]]:
    rng = np.random.default_rng(seed)
    examples = []
    for length in lengths:
        ids = rng.integers(0, VOCABULARY, length)
        labels = np.where(rng.random(length) < rng.uniform(0.1, 1.0), ids, -100)
        labels[rng.integers(1, length)] = 7
        examples.append({"input_ids": ids.tolist(), "labels": labels.tolist()})
    return examples


def loop_gradients(model: torch.nn.Module, examples: list[dict[str, list[int]]]):
    """Plain autograd, one example at a time, through PEFT's own layers and the model's own loss."""
    was_training = model.training
    model.eval()
    rows, losses = [], []
    for example in examples:
        model.zero_grad(set_to_none=True)
        loss = model(
            input_ids=torch.tensor([example["input_ids"]]),
            labels=torch.tensor([example["labels"]]),
            use_cache=False,
        ).loss
        loss.backward()
        rows.append(
            torch.cat(
                [
                    (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                    for p in model.parameters()
                    if p.requires_grad
                ]
            )
        )
        losses.append(loss.detach())
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return torch.stack(rows), torch.stack(losses)


def batch_gradient(model: torch.nn.Module, examples: list[dict[str, list[int]]]) -> torch.Tensor:
    """Autograd's own gradient of the summed losses of one padded batch, flat: (P,)."""
    longest = max(len(example["input_ids"]) for example in examples)

    def padded(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([e[key] + [fill] * (longest - len(e[key])) for e in examples])

    labels = padded("labels", -100)[:, 1:]
    was_training = model.training
    model.eval()
    logits = model(input_ids=padded("input_ids", 0), use_cache=False).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad((losses.sum(dim=1) / (labels != -100).sum(dim=1)).sum(), parameters)
    model.train(was_training)
    return torch.cat([grad.flatten() for grad in grads])


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest over rows of |found - truth| / |truth|."""
    difference = torch.linalg.vector_norm((found - truth).double(), dim=1)
    return float((difference / torch.linalg.vector_norm(truth.double(), dim=1)).max())


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The builders above, as one session fixture (so that property tests may use it)."""
    return SimpleNamespace(
        attention=ATTENTION,
        vocabulary=VOCABULARY,
        build_model=build_model,
        cached_model=cached_model,
        build_full_model=build_full_model,
        cached_full_model=cached_full_model,
        train_only=train_only,
        random_examples=random_examples,
        loop_gradients=loop_gradients,
        batch_gradient=batch_gradient,
        relative_error=relative_error,
    )


@pytest.fixture(scope="session")
def golden() -> SimpleNamespace:
    """The reference implementation's model, examples and features."""
    with np.load(GOLDEN / "less.npz") as arrays:
        features = {key: arrays[key] for key in arrays.files}
    base = AutoModelForCausalLM.from_pretrained(GOLDEN / "base_model", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, GOLDEN / "adapter", is_trainable=True)
    messages = json.loads((GOLDEN / "tokenization.json").read_text())["messages"]
    examples = [messages[index]["max96"] for index in features["example_index"]]
    weights = json.loads((GOLDEN / "lr_weights.json").read_text())
    return SimpleNamespace(model=model, examples=examples, lr_weights=weights, **features)


@pytest.fixture
def small_model(lab: SimpleNamespace) -> PeftModel:
    return lab.build_model()


@pytest.fixture
def plain(lab: SimpleNamespace) -> PreTrainedModel:
    return lab.build_full_model("llama")


@pytest.fixture
def tied(lab: SimpleNamespace) -> PreTrainedModel:
    return lab.build_full_model("llama, tied")


SinkRecorder = Callable[[], tuple[dict[str, torch.Tensor], Callable[[str, torch.Tensor], None]]]


@pytest.fixture(scope="session")
def recorder() -> SinkRecorder:
    """A sink that keeps its blocks and fails if a parameter comes twice."""

    def make():
        blocks: dict[str, torch.Tensor] = {}

        def sink(name: str, block: torch.Tensor) -> None:
            assert name not in blocks
            blocks[name] = block.clone()

        return blocks, sink

    return make
