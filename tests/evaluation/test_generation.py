"""A generated answer does not depend on the batch it was generated in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from tis_ray.data import builtin, query_text
from tis_ray.evaluation import Generation, generate
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.models.lora import attach_lora, trainable_parameters
from tis_ray.settings import LoraConfig, ModelConfig

NEW_TOKENS = 12


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(ModelConfig())


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelConfig())


@pytest.fixture(scope="module")
def prompts(tokenizer: Any) -> list[list[int]]:
    rows = builtin.pool_rows(19, seed=3)
    prompts = [tokenizer(query_text(row["messages"], tokenizer)[0])["input_ids"] for row in rows]
    assert len({len(prompt) for prompt in prompts}) > 5  # so that batches are padded
    return prompts


@pytest.fixture(scope="module")
def one_by_one(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[Generation]:
    """Plain `generate` of transformers, without padding."""
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
        )[0, len(prompt) :]
        finished = tokenizer.eos_token_id in out.tolist()
        answers.append(Generation(tokenizer.decode(out, skip_special_tokens=True), finished))
    return answers


@pytest.mark.parametrize("batch_size", [1, 8, 32])
def test_answers_are_those_of_one_prompt_at_a_time(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    one_by_one: list[Generation],
    batch_size: int,
) -> None:
    assert generate(model, tokenizer, prompts, NEW_TOKENS, batch_size) == one_by_one


def test_finished_says_whether_the_model_ended_the_answer(
    model: Any, tokenizer: Any, prompts: list[list[int]]
) -> None:
    cut = generate(model, tokenizer, prompts, 1, 8)
    assert not any(answer.finished for answer in cut)
    whole = generate(model, tokenizer, prompts, 60, 8)
    assert sum(answer.finished for answer in whole) > 15
    for short, long in zip(cut, whole, strict=True):
        assert long.text.startswith(short.text)


def test_any_of_several_end_tokens_ends_an_answer(
    model: Any, tokenizer: Any, prompts: list[list[int]], one_by_one: list[Generation]
) -> None:
    """As chat templates need, whose end of a turn is not the tokenizer's eos."""
    eos = tokenizer.eos_token_id
    letter = tokenizer(one_by_one[0].text, add_special_tokens=False)["input_ids"][1]
    found = generate(model, tokenizer, prompts, NEW_TOKENS, 8, ends=[eos, letter])
    assert found[0].finished
    assert len(found[0].text) < len(one_by_one[0].text)
    for answer, whole in zip(found, one_by_one, strict=True):
        assert whole.text.startswith(answer.text)


def test_padding_may_be_the_end_token(
    model: Any, tokenizer: Any, prompts: list[list[int]], one_by_one: list[Generation]
) -> None:
    """Many tokenizers have no pad token of their own."""
    own = tokenizer.pad_token
    tokenizer.pad_token = None
    try:
        assert generate(model, tokenizer, prompts, NEW_TOKENS, 8) == one_by_one
    finally:
        tokenizer.pad_token = own


def test_a_models_own_generation_settings_do_not_matter(
    model: Any, tokenizer: Any, prompts: list[list[int]], one_by_one: list[Generation]
) -> None:
    """Chat models ship with sampling and a repetition penalty."""
    own = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=2.0, top_p=0.9, repetition_penalty=3.0, num_beams=2
    )
    try:
        assert generate(model, tokenizer, prompts, NEW_TOKENS, 8) == one_by_one
    finally:
        model.generation_config = own


def test_the_adapter_takes_part(tokenizer: Any, prompts: list[list[int]]) -> None:
    adapted = attach_lora(load_model(ModelConfig()), LoraConfig(), seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainable_parameters(adapted).values():
            parameter.normal_(std=0.05)
    answers = generate(adapted, tokenizer, prompts, NEW_TOKENS, 8)
    merged = adapted.merge_and_unload()
    assert answers == generate(merged, tokenizer, prompts, NEW_TOKENS, 8)
    assert answers != generate(load_model(ModelConfig()), tokenizer, prompts, NEW_TOKENS, 8)


def test_no_prompts_have_no_answers(model: Any, tokenizer: Any) -> None:
    assert generate(model, tokenizer, [], NEW_TOKENS, 8) == []


@pytest.mark.parametrize("batch_size", [1, 8])
def test_an_answer_ends_before_the_first_stop_string(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    one_by_one: list[Generation],
    batch_size: int,
) -> None:
    """Nothing else of it changes; and a stop is not missed where it lies across tokens."""
    stop = [one_by_one[0].text[2:4], one_by_one[3].text[1:2], "never there"]
    found = generate(model, tokenizer, prompts, NEW_TOKENS, batch_size, stop)
    assert sum(a != b for a, b in zip(found, one_by_one, strict=True)) > 1
    for answer, whole in zip(found, one_by_one, strict=True):
        begin = len(whole.text) - len(whole.text.lstrip())
        places = [p for string in stop if (p := whole.text.find(string, begin)) >= 0]
        assert answer.text == whole.text[: min(places, default=None)]
        assert answer.finished == (whole.finished or bool(places))


def test_generation_ends_once_every_answer_has_its_stop(
    model: Any, tokenizer: Any, prompts: list[list[int]], one_by_one: list[Generation]
) -> None:
    steps = 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    handle = model.register_forward_hook(count)
    try:
        stop = [one_by_one[0].text.strip()[0]]
        generate(model, tokenizer, prompts[:1], 60, 1, stop)
    finally:
        handle.remove()
    assert steps <= 4  # the first visible character is not 60 tokens away


def test_a_stop_string_before_the_answer_does_not_end_it(model: Any, tokenizer: Any) -> None:
    """Models without a template often begin with an empty line."""
    answers = iter(["\n\n cat\n\ndog"])

    class Scripted:
        """A tokenizer whose decoding is known; the model's tokens do not matter."""

        eos_token_id, pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id

        def decode(self, *_: Any, **__: Any) -> str:
            return next(answers)

        def batch_decode(self, ids: Any, **_: Any) -> list[str]:
            return ["\n\n"] * len(ids)

    prompt = tokenizer("Hi")["input_ids"]
    (found,) = generate(model, Scripted(), [prompt], 3, 1, ["\n\n"])
    assert found == Generation("\n\n cat", finished=True)
