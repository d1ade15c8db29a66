"""Measuring a study on a sample of its rows, for its price: seconds per row or token, widths, bytes."""

from __future__ import annotations

import copy
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import Module
from transformers import PreTrainedModel

from tis_ray.batches import IGNORED
from tis_ray.batches.threads import cpu_threads
from tis_ray.config import Config
from tis_ray.data import Row, TokenCounts, UnusableError, content_id
from tis_ray.errors import InputError
from tis_ray.evaluation import example_losses, generate
from tis_ray.log import peak_mb
from tis_ray.models.loading import load_model, meta_model
from tis_ray.models.lora import attach_lora, trainable_parameters
from tis_ray.representations import Representation
from tis_ray.stages.feature_recipe import reading_model
from tis_ray.stages.tokens import Tokenise
from tis_ray.store import TableRow
from tis_ray.store.sides import SideName
from tis_ray.study.measured import Measured, ModelSize
from tis_ray.study.time_screen import time_screen
from tis_ray.study.timed import bytes_held, flops_here, time_features, time_scores, time_training

SAMPLE, FEWEST = 64, 4
"""Pool rows that are trained on and featurised, and how many of them where a model is slow."""
MOST_ON_CPU = 1e9
"""Parameters of a model that is measured on a CPU: a larger one takes minutes to load and to read 64 rows."""
PATIENCE = 20.0
"""Seconds that training and featurising them may take together, by the time of reading them once."""
ANSWERS = 4
"""Test rows whose answers are generated."""


def methods_of(config: Config) -> list[Representation]:
    """Return the representations that are computed, each after the cheap one that goes before it."""
    return [method for method in config.representations() if method.gives != "ordering"]


Tell = Callable[[str], None]


def measure_sample(
    config: Config,
    rows: Mapping[SideName, Sequence[Row]],
    device: str,
    tell: Tell = lambda what: None,
) -> Measured:
    """Encode the rows of a sample; train on some, featurise and evaluate them. `tell` hears what is next."""
    with cpu_threads(config.batch.threads):  # the process is used for others afterwards
        return _measured(config, rows, device, tell)


def _measured(
    config: Config, rows: Mapping[SideName, Sequence[Row]], device: str, tell: Tell
) -> Measured:
    tell(f"encoding {len(rows['pool'])} rows")
    start = time.monotonic()
    pool, counts, refused = _encoded(config, rows["pool"], "pool")
    tokenise = (time.monotonic() - start) / max(len(rows["pool"]), 1)
    tell("screening them")
    screen = time_screen(config, rows, device)
    if not pool:
        raise InputError(
            f"data.pool: none of {len(rows['pool'])} rows of a sample can be encoded: {refused}"
        )
    lengths = np.array([len(row["input_ids"]) for row in pool])
    target, _, _ = _encoded(config, rows["test"][: 2 * ANSWERS], "test")
    queries, _, _ = _encoded(config, rows["query"][: 2 * ANSWERS], "query")
    size, nan = _size(config), float("nan")
    known = Measured(
        encoded=len(rows["pool"]),
        tokens_per_row=float(lengths.mean()),
        spread=float(1.96 * lengths.std() / np.sqrt(len(lengths)) / lengths.mean()),
        usable=len(pool) / len(rows["pool"]),
        refused=refused,
        cut=counts.cut_rows / len(pool),
        lost_tokens=counts.lost_tokens / counts.tokens,
        target_tokens=float(np.mean([len(row["input_ids"]) for row in target] or [0])),
        tokenise=tokenise,
        screen=screen,
        model=size,
        readers=_readers(config, size["parameters"]),
        start=0.0,  # who started the process knows
        sample=0,
        load=nan,
        train=nan,
        finetune=nan,
        saved=4 * size["trained"],
        feature={},
        held={
            m.name: bytes_held(m, config, pool, queries)
            for m in methods_of(config)
            if m.gives == "scores"
        },
        width={},
        loss=nan,
        answer=nan,
        flops=flops_here(),
        peak_mb=peak_mb(),
    )
    if device == "cpu" and size["parameters"] > MOST_ON_CPU:
        tell("what needs no language model")
        feature, width = _without_model(config, size, _spread(pool, SAMPLE), queries)
        return {**known, "feature": feature, "width": width, "peak_mb": peak_mb()}
    feature, width = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        tell(f"loading {config.model.name}")
        start = time.monotonic()
        lora = attach_lora(load_model(config.model, device), config.finetune.lora, seed=0)
        load = time.monotonic() - start
        sample = _affordable(config, lora, pool)
        tell(f"training on {len(sample)} rows")
        train, checkpoint = time_training(config, lora, sample, Path(scratch) / "lora")
        finetune, saved = train, _bytes(trainable_parameters(lora).values())
        if config.finetune.method == "full":
            model = load_model(config.model, device).requires_grad_(True)
            saved = _bytes(model.parameters())
            finetune, _ = time_training(config, model, sample, Path(scratch) / "full")
        for method in methods_of(config):
            tell(f"{method.name} of {len(sample)} rows")
            feature[method.name], width[method.name] = (
                time_features(method, config, sample, device, checkpoint)
                if method.gives == "vectors"
                else time_scores(method, config, sample, queries)
            )
    model = load_model(config.model, device)
    tell("evaluating")
    start = time.monotonic()
    example_losses(model, target)
    loss = (time.monotonic() - start) / max(len(target), 1)
    answer = 0.0
    if (config.evaluation.metrics or config.evaluation.tasks) and target:
        tokenizer = Tokenise.for_side(config, Path(), "test").tokenizer
        prompts = [_prompt(row) for row in target[:ANSWERS]]
        start = time.monotonic()
        generate(model, tokenizer, prompts, config.evaluation.max_new_tokens, len(prompts))
        answer = (time.monotonic() - start) / len(prompts)
    return {
        **known,
        "sample": len(sample),
        "load": load,
        "train": train,
        "finetune": finetune,
        "saved": saved,
        "feature": feature,
        "width": width,
        "loss": loss,
        "answer": answer,
        "peak_mb": peak_mb(),
    }


def _encoded(
    config: Config, rows: Sequence[Row], side: SideName
) -> tuple[list[TableRow], TokenCounts, dict[str, int]]:
    """Return the rows that can be encoded, what encoding came to, and the others by reason."""
    encoder, found, counts = Tokenise.for_side(config, Path(), side), [], TokenCounts()
    refused: Counter[str] = Counter()
    for number, row in enumerate(rows):
        try:
            encoded = encoder.encode(row)
        except UnusableError as error:
            refused[str(error.reason)] += 1
            continue
        counts.add(encoded)
        # What EMBED reads; the template's marks are a few characters.
        text = "\n".join(turn["content"] for turn in row["messages"])
        facts = {"row": number, "content": content_id(row), "text": text, "response_tokens": 1}
        found.append({**row, **encoded.encoded(), **facts})
    return found, counts, dict(refused.most_common())


def _affordable(config: Config, model: Module, rows: list[TableRow]) -> list[TableRow]:
    """Return rows spread over these, as many as can be trained on and featurised with patience."""
    some = rows[:: max(1, len(rows) // FEWEST)][:FEWEST]
    example_losses(model, some)  # the first pass also warms up
    start = time.monotonic()
    example_losses(model, some)
    read_once = (time.monotonic() - start) / len(some)
    # Training takes about three passes, a gradient of each row four.
    passes = 3 * (1 + (config.finetune.method == "full")) + 4 * len(methods_of(config))
    count = max(FEWEST, min(SAMPLE, len(rows), int(PATIENCE / (passes * read_once))))
    return _spread(rows, count)


def _spread(rows: list[TableRow], count: int) -> list[TableRow]:
    """Return at most so many of the rows, evenly spread over them."""
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, count).astype(int)).tolist()]


def _size(config: Config) -> ModelSize:
    """Return the shape of the model that is fine-tuned, from its config: no weight is read."""
    base = copy.deepcopy(meta_model(config.model))  # which is everybody's
    parameters = base.num_parameters()
    shape = base.config.get_text_config()
    lora = attach_lora(base, config.finetune.lora, seed=0)
    adapter = sum(tensor.numel() for tensor in trainable_parameters(lora).values())
    return ModelSize(
        parameters=parameters,
        adapter=adapter,
        trained=parameters if config.finetune.method == "full" else adapter,
        hidden=_hidden(base),
        layers=int(shape.num_hidden_layers),
        vocabulary=int(shape.vocab_size),
        bytes_each=4 if config.model.dtype == "float32" else 2,
    )


def _hidden(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().hidden_size)


def _readers(config: Config, parameters: float) -> dict[str, float]:
    sizes = {}
    for method in methods_of(config):
        if method.reads == "tokens" and method.gives == "vectors":
            model = reading_model(method, config)
            own = model != config.model
            sizes[method.name] = float(meta_model(model).num_parameters()) if own else parameters
    return sizes


def _bytes(tensors: Iterable[torch.Tensor]) -> float:
    return float(sum(tensor.nbytes for tensor in tensors))


def _without_model(
    config: Config, size: ModelSize, sample: list[TableRow], queries: list[TableRow]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return seconds per row and widths by representation, where the language model cannot be run here.

    What reads text, and what gives scores, is measured as ever. Of the others the width follows from settings.
    """
    feature: dict[str, float] = {}
    width: dict[str, float] = {}
    for method in methods_of(config):
        name = method.name
        if method.gives == "scores":
            feature[name], width[name] = time_scores(method, config, sample, queries)
        elif method.reads == "text":
            feature[name], width[name] = time_features(method, config, sample, "cpu", None)
        else:
            reader = reading_model(method, config)
            hidden = _hidden(meta_model(reader)) if reader != config.model else size["hidden"]
            known = method.width(config.settings_of(method), hidden)
            feature[name] = float("nan")
            width[name] = float("nan") if known is None else known
    return feature, width


def _prompt(row: TableRow) -> list[int]:
    first = next(i for i, label in enumerate(row["labels"]) if label != IGNORED)
    prompt: list[int] = row["input_ids"][:first]
    return prompt
