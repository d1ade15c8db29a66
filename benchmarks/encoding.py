"""Rows as tokens and labels, against `apply_chat_template` and against counting tokens of prefixes.

apply_chat_template renders and tokenises a dialogue once, and knows no labels without marks in the
template: it is the floor. What most programs do for labels is to render and tokenise the dialogue
up to each turn.
"""

from __future__ import annotations

import random
from typing import Any

from benchmarks.timing import ratio
from tis_ray.data import CHATML_JINJA, Message, encode_messages
from tis_ray.models.loading import load_tokenizer
from tis_ray.settings import ModelConfig

WORDS = [
    "the",
    "capital",
    "of",
    "France",
    "is",
    "Paris",
    "and",
    "other",
    "things",
    "that",
    "one",
    "may",
    "say",
    "in",
    "an",
    "answer",
]


def by_prefixes(messages: list[Message], tokenizer: Any) -> tuple[list[int], list[int]]:
    ids = tokenizer.apply_chat_template(messages)["input_ids"]
    labels = [-100] * len(ids)
    for index, turn in enumerate(messages):
        if turn["role"] == "assistant":
            asked = tokenizer.apply_chat_template(messages[:index], add_generation_prompt=True)
            told = tokenizer.apply_chat_template(messages[: index + 1])
            span = slice(len(asked["input_ids"]), len(told["input_ids"]))
            labels[span] = ids[span]
    return ids, labels


def main() -> None:
    tokenizer: Any = load_tokenizer(ModelConfig())
    tokenizer.chat_template = CHATML_JINJA.replace("'<|im_end|>'", "eos_token")
    draw = random.Random(0)
    for turns in (2, 20):
        rows: list[list[Message]] = [
            [
                {"role": role, "content": " ".join(draw.choices(WORDS, k=30))}
                for role in ("user", "assistant") * (turns // 2)
            ]
            for _ in range(100)
        ]
        ratio(
            f"chat, 100 rows of {turns} turns, peer: tokens of prefixes",
            lambda rows=rows: [by_prefixes(row, tokenizer) for row in rows],
            lambda rows=rows: [encode_messages(row, tokenizer, 10**6, "chat") for row in rows],
        )
        for template in ("chat", "tulu"):
            ratio(
                f"{template}, the same, peer: apply_chat_template without labels (the floor)",
                lambda rows=rows: [tokenizer.apply_chat_template(row) for row in rows],
                lambda rows=rows, template=template: [
                    encode_messages(row, tokenizer, 10**6, template) for row in rows
                ],
            )


if __name__ == "__main__":
    main()
