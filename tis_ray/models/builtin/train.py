"""Train the model that ships with the package: `python -m tis_ray.models.builtin.train --out DIR`.

The base model of a demonstration should be half competent: good enough that a hundred examples of
one skill help at once, and poor enough that there is something to gain. It is therefore trained only
on base rows (`tis_ray.data.builtin`), which are answered in two readings, and only for a few minutes.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tis_ray.data import Message
from tis_ray.data.builtin import base_rows, template_words
from tis_ray.data.builtin.skills import DIGITS

STEPS = 2600
BATCH = 64
BATCHES_SORTED = 16  # rows of so many batches are sorted by length: a fifth less padding
PEAK_LR = 2e-3
WARMUP_STEPS = 150
IGNORED = -100


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each template word, and one per byte for all else.

    A newline or a quotation mark is always a token of its own and so is a role marker, so that
    re-tokenising a longer prefix of a dialogue never changes the tokens of a shorter one at a turn.
    """
    pieces = ["<s>", "</s>", "[PAD]", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    for word in template_words():
        # Without the space before it only where a text or an answer can start with the word, so
        # that answers such as "so" stay letters; single letters are payload, never words.
        if len(word) > 1:
            pieces += ["Ġ" + word, word] if word[0].isupper() or word in DIGITS else ["Ġ" + word]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, 'Ġ"']))}
    # No merges: a piece is either in the vocabulary as it stands or falls apart into bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    words = Regex(r"\n| ?\p{L}+| ?[^\s\p{L}]| +|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(piece, special=True, normalized=False) for piece in ("<s>", "</s>", "[PAD]")]
    )
    tokenizer.add_tokens(
        [AddedToken(f"<|{role}|>", normalized=False) for role in ("system", "user", "assistant")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        pad_token="[PAD]",  # noqa: S106
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_model(vocab_size: int) -> LlamaForCausalLM:
    """Return a four-layer Llama of about 0.95 million parameters, randomly initialised."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
    )


def training_batches(
    tokenizer: PreTrainedTokenizerFast, batches: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield `(input_ids, labels)`, each (E, T): base rows, padded right, labels only on responses."""
    rng = random.Random(seed)
    encoded = (_encoded(tokenizer, row["messages"]) for row in base_rows(batches * BATCH, seed))
    while chunk := list(islice(encoded, BATCHES_SORTED * BATCH)):
        chunk.sort(key=lambda example: len(example[0]) + len(example[1]))
        starts = list(range(0, len(chunk), BATCH))
        rng.shuffle(starts)
        for start in starts:
            yield _padded(chunk[start : start + BATCH], tokenizer.pad_token_id)


def _encoded(
    tokenizer: PreTrainedTokenizerFast, messages: list[Message]
) -> tuple[list[int], list[int]]:
    user, assistant = (message["content"] for message in messages)
    prompt = f"<|user|>\n{user}\n<|assistant|>\n"
    return tokenizer.encode(prompt), tokenizer.encode(f"{assistant}</s>")


def _padded(
    examples: list[tuple[list[int], list[int]]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(prompt) + len(answer) for prompt, answer in examples)
    input_ids = torch.full((len(examples), width), pad_id)
    labels = torch.full((len(examples), width), IGNORED)
    for i, (prompt, answer) in enumerate(examples):
        end = len(prompt) + len(answer)
        input_ids[i, :end] = torch.tensor(prompt + answer)
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return input_ids, labels


def learning_rate(step: int, steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine down to a tenth of the peak."""
    if step < WARMUP_STEPS:
        return PEAK_LR * (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return PEAK_LR * (0.55 + 0.45 * math.cos(math.pi * progress))


def train(steps: int, seed: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the trained model; the same (steps, seed, thread count) gives the same one."""
    torch.manual_seed(seed)
    model = build_model(len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    started = time.monotonic()
    for step, (input_ids, labels) in enumerate(training_batches(tokenizer, steps, seed)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        # Right padding under a causal mask cannot reach a response token: no mask is needed.
        # Only positions that predict a response token go through the vocabulary layer.
        hidden = model.model(input_ids).last_hidden_state[:, :-1]
        wanted = labels[:, 1:] != IGNORED
        loss = torch.nn.functional.cross_entropy(
            model.lm_head(hidden[wanted]), labels[:, 1:][wanted]
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            print(
                f"step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True
            )
    return model


def main() -> None:
    """Train and write model, configuration and tokenizer into `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = build_tokenizer()
    model = train(options.steps, options.seed, tokenizer)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
