"""Greedy generation of answers, the same in any batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from tis_ray.batches import forget_lengths, rotary_depends_on_length
from tis_ray.models.lora import CausalLM, without_wrapper


@dataclass(frozen=True)
class Generation:
    """One generated answer."""

    text: str
    """Decoded answer, without special tokens."""
    finished: bool
    """Whether the answer ended by itself, in an end-of-sequence token or a stop string."""


@torch.inference_mode()
def generate(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    stop: Sequence[str] = (),
    ends: Sequence[int] = (),
) -> list[Generation]:
    """Return the greedy continuation of each prompt (token ids), in the order given.

    An answer ends before the first of the `stop` strings after its first visible character, or at
    one of the tokens `ends` (default: the tokenizer's eos). Prompts are batched by length and padded
    on the left, so the mask and the positions are right for every row; the result does not depend on
    the batch.
    """
    model.eval()
    base = without_wrapper(model)
    device = next(model.parameters()).device
    end_ids = list(ends) or [tokenizer.eos_token_id]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0]
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=end_ids, pad_token_id=pad
    )
    out: list[Generation | None] = [None] * len(prompts)
    for members in _batches(base, [len(prompt) for prompt in prompts], max_new_tokens, batch_size):
        longest = max(len(prompts[i]) for i in members)
        ids_ET = torch.full((len(members), longest), pad, dtype=torch.long)
        mask_ET = torch.zeros_like(ids_ET)
        for row, i in enumerate(members):
            ids_ET[row, longest - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask_ET[row, longest - len(prompts[i]) :] = 1
        with only_settings(base, settings):
            answers_ET = base.generate(
                input_ids=ids_ET.to(device),
                attention_mask=mask_ET.to(device),
                stopping_criteria=StoppingCriteriaList(
                    [_StopStrings(stop, tokenizer, longest)] if stop else []
                ),
            )[:, longest:].cpu()
        for i, answer_T in zip(members, answers_ET, strict=True):
            ended = torch.isin(answer_T, torch.tensor(end_ids)).nonzero()
            kept = answer_T[: ended[0]] if len(ended) else answer_T
            text = tokenizer.decode(kept, skip_special_tokens=True)
            begin = len(text) - len(text.lstrip())
            places = [place for string in stop if (place := text.find(string, begin)) >= 0]
            text = text[: min(places, default=len(text))]
            out[i] = Generation(text, bool(places) or len(ended) > 0)
    return [generation for generation in out if generation is not None]


def _batches(
    base: PreTrainedModel, lengths: Sequence[int], max_new_tokens: int, batch_size: int
) -> Iterator[list[int]]:
    """Yield the prompts of each batch, by length.

    Where rotary factors depend on how long an answer has become, a batch has prompts of one length.
    """
    waiting = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    while waiting:
        members = waiting[:batch_size]
        if rotary_depends_on_length(base, lengths[members[-1]] + max_new_tokens):
            members = [i for i in members if lengths[i] == lengths[members[0]]]
        forget_lengths(base)
        yield members
        waiting = waiting[len(members) :]
    forget_lengths(base)


@contextmanager
def only_settings(base: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Make the model generate with `settings` and nothing else.

    Settings passed to `generate` are completed from the model's own, and chat models ship with
    repetition penalties and the like, so that their answers would not be the greedy ones.
    """
    own = base.generation_config
    base.generation_config = settings
    try:
        yield
    finally:
        base.generation_config = own


class _StopStrings(StoppingCriteria):
    """Ends rows whose newest text contains a stop string, so that no step is spent on what is cut."""

    def __init__(
        self, stop: Sequence[str], tokenizer: PreTrainedTokenizerBase, prompt_length: int
    ) -> None:
        self.stop, self.tokenizer, self.start = stop, tokenizer, prompt_length
        # A token is nearly always one character or more; a stop that is missed is cut off later.
        self.window = max(map(len, stop)) + 8

    def __call__(self, input_ids: Tensor, _scores: Tensor, **_kwargs: object) -> Tensor:
        newest_ET = input_ids[:, max(self.start, input_ids.shape[1] - self.window) :]
        texts = self.tokenizer.batch_decode(newest_ET, skip_special_tokens=True)
        stopped = [any(string in text.lstrip() for string in self.stop) for text in texts]
        return torch.tensor(stopped, device=input_ids.device)
