"""The training loop equals a plain one, whatever it was cut into and however often it stopped."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor
from transformers import get_linear_schedule_with_warmup

from tis_ray.data import builtin, encode_messages
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.models.lora import attach_lora, trainable_parameters
from tis_ray.settings import LoraConfig, ModelConfig, TrainingConfig
from tis_ray.store import write_text
from tis_ray.training.checkpoints import Checkpoint, checkpoints
from tis_ray.training.fsdp import gather_weights, shard_model
from tis_ray.training.loop import UnmovedError, linear_schedule, train

GOLDEN = Path(__file__).parents[1] / "golden" / "less"
CONFIG = TrainingConfig(
    epochs=4, learning_rate=1e-2, batch_size=4, warmup_ratio=0.2, weight_decay=0.1
)
IN_FIVES = CONFIG.model_copy(update={"batch_size": 5})  # an epoch of eleven ends with one row


@cache
def examples(count: int = 11) -> list[dict[str, list[int]]]:
    rows = json.loads((GOLDEN / "tokenization.json").read_text())["messages"]
    rows = [row["max96"] for row in rows if len(row["max96"]["input_ids"]) < 64]
    return [row for row in rows if any(label != -100 for label in row["labels"][1:])][:count]


def new_model(dropout: float = 0.0) -> Any:
    base = load_model(ModelConfig(name=str(GOLDEN / "base_model")))
    return attach_lora(base, LoraConfig(rank=4, dropout=dropout), seed=0)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainable_parameters(model).items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def plain_loop(config: TrainingConfig, seed: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same training by the textbook: transformers' loss and schedule, one example at a time."""
    model = new_model().train()
    optimizer = torch.optim.AdamW(
        trainable_parameters(model).values(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    per_epoch = -(-len(examples()) // config.batch_size)
    total = per_epoch * config.epochs
    schedule = get_linear_schedule_with_warmup(
        optimizer, int(np.ceil(config.warmup_ratio * total)), total
    )
    losses = []
    for epoch in range(config.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(examples()))
        for start in range(0, len(order), config.batch_size):
            batch = [examples()[i] for i in order[start : start + config.batch_size]]
            counts = [sum(label != -100 for label in row["labels"][1:]) for row in batch]
            loss = sum(
                count
                / sum(counts)
                * model(
                    input_ids=torch.tensor([row["input_ids"]]),
                    labels=torch.tensor([row["labels"]]),
                ).loss
                for row, count in zip(batch, counts, strict=True)
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return weights(model), losses


def test_training_equals_a_plain_loop(tmp_path: Path) -> None:
    """Eleven rows in batches of four: the last batch of an epoch is the mean over its own tokens."""
    model = new_model()
    kept = train(model, examples(), CONFIG, seed=5, folder=tmp_path)
    truth, losses = plain_loop(CONFIG, seed=5)
    assert largest_difference(weights(model), truth) < 2e-6
    assert [step["loss"] for step in kept[-1].steps()] == pytest.approx(losses, rel=1e-5)


ONCE = {"epochs": 1, "batch_size": 11, "max_grad_norm": 1e9, "warmup_ratio": 0}
"""One step over all examples, with its gradient as it is."""


def first_gradient(folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    config = TrainingConfig(**(ONCE | changes))
    (kept,) = train(new_model(), examples(), config, seed=0, folder=folder)
    return {name: moment / 0.1 for name, moment in kept.moments()[0].items()}  # m = (1 - 0.9) g


def test_how_a_batch_is_cut_changes_no_gradient(tmp_path: Path) -> None:
    whole = first_gradient(tmp_path / "whole", micro_tokens=100_000)
    scale = max(float(gradient.abs().max()) for gradient in whole.values())
    for micro_tokens, packed in itertools.product((1, 60, 200, 100_000), (False, True)):
        folder = tmp_path / f"{micro_tokens}-{packed}"
        parts = first_gradient(folder, micro_tokens=micro_tokens, packed=packed)
        assert largest_difference(parts, whole) < 1e-5 * scale


@cache
def shipped_rows(count: int = 40) -> list[dict[str, list[int]]]:
    """Rows of the built-in pool, of 16 skills and uneven lengths, for the shipped model."""
    tokenizer = load_tokenizer(ModelConfig())
    rows = builtin.pool_rows(count, seed=1)
    return [dict(encode_messages(row["messages"], tokenizer, 128)) for row in rows]  # type: ignore[arg-type]


def shipped_model() -> Any:
    return attach_lora(load_model(ModelConfig()), LoraConfig(), seed=0)


def test_packed_training_equals_padded_training(tmp_path: Path) -> None:
    """First gradients to 1e-5, the losses of 20 steps to 1e-4, on the shipped model."""
    losses, gradients = [], []
    for packed in (False, True):
        config = TrainingConfig(
            epochs=4, batch_size=8, learning_rate=1e-3, micro_tokens=500, packed=packed
        )
        folder = tmp_path / str(packed)
        kept = train(shipped_model(), shipped_rows(), config, seed=0, folder=folder)
        losses.append([step["loss"] for step in kept[-1].steps()])
        once = config.model_copy(update=ONCE | {"batch_size": 40})
        (kept,) = train(shipped_model(), shipped_rows(), once, seed=0, folder=folder / "once")
        gradients.append({name: m / 0.1 for name, m in kept.moments()[0].items()})
    assert len(losses[0]) == 20
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    scale = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    assert largest_difference(*gradients) < 1e-5 * scale
    assert losses[0] != losses[1]  # another computation, or nothing was compared


class Stop(Exception):  # noqa: N818
    """Stands for a lost worker."""


def stop_at(last: int) -> Callable[[int, int], None]:
    def stop(step: int, total: int) -> None:
        if step == last:
            raise Stop

    return stop


@pytest.mark.parametrize("kind", ["lora", "full", "full bfloat16"])
def test_a_stopped_run_ends_in_the_same_weights(tmp_path: Path, kind: str) -> None:
    """Bit by bit, adapters with dropout on: masks, orders and rates depend on the step alone."""

    def new() -> Any:
        return new_model(dropout=0.2) if kind == "lora" else model_of(kind)

    undisturbed = new()
    (kept,) = train(undisturbed, examples(), CONFIG, seed=3, folder=tmp_path / "undisturbed")
    for last in (1, 4, 6, 11):  # optimizer steps of 12; epochs end at 3, 6, 9
        folder = tmp_path / str(last)
        with pytest.raises(Stop):
            train(new(), examples(), CONFIG, seed=3, folder=folder, on_step=stop_at(last))
        torch.manual_seed(last)  # another process has another generator
        model = new()
        (continued,) = train(model, examples(), CONFIG, seed=3, folder=folder)
        assert equal(weights(model), weights(undisturbed))
        assert continued.steps() == kept.steps()
        for one, other in zip(continued.moments(), kept.moments(), strict=True):
            assert equal(one, other)


def test_a_run_that_is_stopped_while_it_saves_is_not_misled(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    model = new_model()
    train(model, examples(), CONFIG, seed=3, folder=tmp_path / "other")
    half = tmp_path / "run" / ".epoch-1.tmp"
    half.mkdir(parents=True)
    (half / "moments.safetensors").write_bytes(b"half")
    again = new_model()
    train(again, examples(), CONFIG, seed=3, folder=tmp_path / "run")
    assert equal(weights(again), weights(model))


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    model = new_model()
    train(model, examples(), CONFIG, seed=3, folder=tmp_path)
    again = new_model()
    steps: list[int] = []
    kept = train(
        again, examples(), CONFIG, seed=3, folder=tmp_path, on_step=lambda s, _: steps.append(s)
    )
    assert steps == []
    assert [checkpoint.epoch for checkpoint in kept] == [4]
    assert equal(weights(again), weights(model))


def test_the_loss_falls(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig())
    rows = builtin.test_rows("reverse_word", 16, seed=0)
    encoded = [encode_messages(row["messages"], tokenizer, 128) for row in rows]
    model = attach_lora(load_model(ModelConfig()), LoraConfig(), seed=0)
    config = TrainingConfig(epochs=5, learning_rate=5e-3, batch_size=4)
    epochs: list[dict[str, float]] = []
    train(model, encoded, config, seed=0, folder=tmp_path, on_epoch=epochs.append)  # type: ignore[arg-type]
    assert [metrics["epoch"] for metrics in epochs] == [1, 2, 3, 4, 5]
    assert epochs[-1]["loss"] < 0.7 * epochs[0]["loss"]


def test_moments_are_the_optimizers_by_parameter_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.optim.AdamW] = []

    class Recorded(torch.optim.AdamW):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr("torch.optim.AdamW", Recorded)
    model = new_model()
    (kept,) = train(model, examples(), CONFIG, seed=3, folder=tmp_path)
    first, second = kept.moments()
    parameters = trainable_parameters(model)
    assert first.keys() == second.keys() == parameters.keys()
    for name, parameter in parameters.items():
        state = made[0].state[parameter]
        assert torch.equal(first[name], state["exp_avg"])
        assert torch.equal(second[name], state["exp_avg_sq"])
        assert first[name].abs().sum() > 0


def test_one_checkpoint_for_each_epoch_or_the_last_alone(tmp_path: Path) -> None:
    kept = train(new_model(), examples(), CONFIG, seed=3, folder=tmp_path / "a", keep_all=True)
    assert [checkpoint.epoch for checkpoint in kept] == [1, 2, 3, 4]
    assert [len(checkpoint.steps()) for checkpoint in kept] == [3, 6, 9, 12]
    last = train(new_model(), examples(), CONFIG, seed=3, folder=tmp_path / "b")
    assert [checkpoint.epoch for checkpoint in last] == [4]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["epoch-4"]


def test_checkpoints_are_sorted_by_number(tmp_path: Path) -> None:
    for epoch in (10, 9, 1):
        write_text(tmp_path / f"epoch-{epoch}" / "steps.json", "[]")
    (tmp_path / "epoch-11").mkdir()  # of a process that was killed while it wrote
    assert [checkpoint.epoch for checkpoint in checkpoints(tmp_path)] == [1, 9, 10]
    assert checkpoints(tmp_path / "nowhere") == []
    assert Checkpoint(tmp_path / "epoch-9").adapter == tmp_path / "epoch-9" / "adapter"


def test_the_log_holds_the_rates_that_were_used(tmp_path: Path) -> None:
    (kept,) = train(new_model(), examples(), CONFIG, seed=3, folder=tmp_path)
    steps = kept.steps()
    assert [step["step"] for step in steps] == list(range(1, 13))
    assert [step["epoch"] for step in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    rates = [step["learning_rate"] for step in steps]
    assert rates == [1e-2 * linear_schedule(step, 3, 12) for step in range(12)]
    tokens = sum(sum(label != -100 for label in row["labels"][1:]) for row in examples())
    assert sum(step["tokens"] for step in steps) == 4 * tokens


@pytest.mark.parametrize("total", [2, 7, 40])
@pytest.mark.parametrize("warmup", [0, 1, 3, 7])
def test_the_schedule_is_transformers_linear_one(warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, total)
    for step in range(total):
        assert linear_schedule(step, warmup, total) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("warmup_ratio", [0, 0.03, 1])
def test_a_single_step_has_the_peak_rate_and_trains(tmp_path: Path, warmup_ratio: float) -> None:
    """A warm-up's first step has no rate; as the only one, it would train nothing."""
    config = TrainingConfig(epochs=1, batch_size=128, learning_rate=1e-3, warmup_ratio=warmup_ratio)
    model = new_model()
    before = weights(model)
    (kept,) = train(model, examples(), config, seed=3, folder=tmp_path)
    assert [step["learning_rate"] for step in kept.steps()] == [1e-3]
    assert largest_difference(weights(model), before) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("ratio", [0, 0.03, 0.5, 1])
def test_every_schedule_has_a_rate_that_trains(ratio: float) -> None:
    for total in range(1, 50):
        warmup = int(np.ceil(ratio * total))
        assert max(linear_schedule(step, warmup, total) for step in range(total)) > 0


@pytest.mark.parametrize("kind", ["lora", "full", "full bfloat16"])
def test_a_training_that_moves_no_weight_is_an_error(tmp_path: Path, kind: str) -> None:
    """A rate below the smallest float32 number, or, in bfloat16, below a weight's last digit."""
    rate = 1e-12 if "bfloat16" in kind else 1e-60
    config = CONFIG.model_copy(update={"learning_rate": rate, "weight_decay": 0.0})
    with pytest.raises(UnmovedError, match=r"no weight moved in 12 step\(s\), with .* raise learn"):
        train(model_of(kind), examples(), config, seed=3, folder=tmp_path)


def test_the_seed_decides_and_the_callers_generator_does_not(tmp_path: Path) -> None:
    found = []
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        model = new_model(dropout=0.2)
        torch.manual_seed(state)
        train(model, examples(), CONFIG, seed=seed, folder=tmp_path / f"{seed}-{state}")
        found.append(weights(model))
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


def test_dropout_is_on_while_training_and_off_afterwards(tmp_path: Path) -> None:
    trained = []
    for dropout in (0.0, 0.2):
        model = new_model(dropout)
        train(model, examples(), CONFIG, seed=3, folder=tmp_path / str(dropout))
        assert not any(module.training for module in model.modules())
        trained.append(weights(model))
    assert largest_difference(*trained) > 1e-4


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    model = new_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[examples()[0]["input_ids"][0]] = float("nan")
    with pytest.raises(FloatingPointError, match=r"step 1 of 12: the loss is nan .*lower learning"):
        train(model, examples(), CONFIG, seed=3, folder=tmp_path)
    assert checkpoints(tmp_path) == []


# ---- several workers -------------------------------------------------------------------------

KINDS = [
    "lora",
    "lora packed",
    "full",
    "full bfloat16",
    "sharded",
    "sharded bfloat16",
    "sharded packed",
]


def model_of(kind: str) -> Any:
    if "lora" in kind:
        return new_model()
    dtype = "bfloat16" if "bfloat16" in kind else "float32"
    base = load_model(ModelConfig(name=str(GOLDEN / "base_model"), dtype=dtype))
    return base.requires_grad_(True)


def config_of(kind: str) -> TrainingConfig:
    return IN_FIVES.model_copy(
        update={
            "packed": "packed" in kind,
            "micro_tokens": 60,  # workers have different numbers of passes
            "learning_rate": 1e-2 if "lora" in kind else 1e-3,
        }
    )


def ready(kind: str) -> Any:
    """The model as one of several workers has it."""
    model = model_of(kind)
    if "sharded" in kind:
        shard_model(model, "cpu")
    return model


def whole_weights(model: Any) -> dict[str, torch.Tensor]:
    """The trained weights, put together on the first worker if they lie in parts."""
    if any(isinstance(p, DTensor) for p in model.parameters()):
        return gather_weights(model, torch.float32)
    return weights(model)


def one_of_two(rank: int, folder: Path) -> None:
    """Train every kind as one worker of two; the sharded ones are stopped and started again."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    try:
        for kind in KINDS:
            config, where = config_of(kind), folder / kind
            once = config.model_copy(update=ONCE)
            train(ready(kind), examples(), once, seed=3, folder=folder / f"{kind} once")
            if "sharded" in kind:
                with suppress(Stop):
                    train(ready(kind), examples(), config, seed=3, folder=where, on_step=stop_at(7))
            model = ready(kind)
            train(model, examples(), config, seed=3, folder=where)
            torch.save(whole_weights(model), folder / f"{kind} {rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def second_of_two(folder: Path) -> None:
    """Be the second worker; an exception ends the process with another code than 0."""
    one_of_two(1, folder)
    os._exit(0)  # at the interpreter's end gloo's threads sometimes abort the process


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    other = torch.multiprocessing.get_context("spawn").Process(
        target=second_of_two, args=(folder,), daemon=True
    )
    other.start()
    one_of_two(0, folder)
    other.join(60)
    assert other.exitcode == 0
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_end_in_the_weights_of_one(
    two_workers: Path, tmp_path: Path, kind: str
) -> None:
    """Eleven rows of uneven lengths in fives, so that the last step has one row for two workers.

    To 1e-5 in float32; in bfloat16, whose rounding amplifies the last digits of the float32 sums,
    to a twentieth of the way that training went.
    """
    model = model_of(kind)
    before = weights(model)
    (alone,) = train(model, examples(), config_of(kind), seed=3, folder=tmp_path)
    found = torch.load(two_workers / f"{kind} 0.pt", weights_only=True)
    other = torch.load(two_workers / f"{kind} 1.pt", weights_only=True)
    if "sharded" not in kind:
        assert equal(found, other)
    truth = weights(model)
    (together,) = checkpoints(two_workers / kind)
    losses = [[step["loss"] for step in kept.steps()] for kept in (together, alone)]
    if "bfloat16" in kind:
        moved = torch.cat([(truth[name].float() - before[name]).flatten() for name in truth])
        error = torch.cat([(truth[name].float() - found[name]).flatten() for name in truth])
        assert error.norm() < 0.05 * moved.norm()
        assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    else:
        assert largest_difference(found, truth) < 1e-5
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_two_workers_is_that_of_one(
    two_workers: Path, tmp_path: Path, kind: str
) -> None:
    """Its scale too, which neither Adam nor clipped gradients would show."""
    once = config_of(kind).model_copy(update=ONCE)
    (alone,) = train(model_of(kind), examples(), once, seed=3, folder=tmp_path)
    truth, _ = alone.moments()
    (together,) = checkpoints(two_workers / f"{kind} once")
    ranks = ["-0-of-2", "-1-of-2"] if "sharded" in kind else [""]
    parts = [together.moments(rank)[0] for rank in ranks]
    found = {name: torch.cat([part[name] for part in parts]) for name in truth}
    scale = max(float(moment.abs().max()) for moment in truth.values())
    assert largest_difference(found, truth) < (1e-2 if "bfloat16" in kind else 1e-5) * scale
