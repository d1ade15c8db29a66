"""Fine-tuning through Ray: one worker or several, killed or not, adapters or every weight."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.small import small_study
from tis_ray.analysis import Cell
from tis_ray.config import parse_config
from tis_ray.distributed.connect import connect
from tis_ray.evaluation import example_losses
from tis_ray.log import RunLog
from tis_ray.models.loading import load_model, load_tokenizer
from tis_ray.settings import ModelConfig
from tis_ray.stages.cells import plan_cells, sweep, train_losses
from tis_ray.stages.context import Context
from tis_ray.stages.tokens import prepare_side, read_side
from tis_ray.store.sides import SIDES, Side

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

FULL = {"method": "full", "learning_rate": 1e-4}


@pytest.fixture(scope="module")
def folder(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


def sides_of(folder: Path, **finetune: Any) -> tuple[Context, list[Side]]:
    config = parse_config(
        small_study(folder, **{f"finetune__{name}": value for name, value in finetune.items()})
    )
    context = Context(config, connect(config), RunLog(folder, Console(quiet=True)))
    return context, [prepare_side(context, side, read_side(config, side)) for side in SIDES]


def trained(folder: Path, **finetune: Any) -> Cell:
    """Fine-tune on twelve random rows of the small study's pool, and evaluate."""
    context, sides = sides_of(folder, **finetune)
    cells = [cell for cell in plan_cells(context.config, sides[0], []) if not cell.zero_shot]
    (result,) = sweep(cells, context, *sides)
    return result


def assert_equal(cell: Cell, truth: Cell, rel: float) -> None:
    assert train_losses(cell) == pytest.approx(train_losses(truth), rel=rel)
    for name in ("test_loss", "query_loss"):
        assert cell.metrics[name] == pytest.approx(truth.metrics[name], rel=rel)
    assert cell.train_tokens == truth.train_tokens


def test_two_workers_equal_one(folder: Path) -> None:
    """Losses of each step, and of the trained models, to 1e-5."""
    assert_equal(trained(folder, workers=2), trained(folder, workers=0), rel=1e-5)


@pytest.fixture(scope="module")
def full(folder: Path) -> Cell:
    return trained(folder, workers=0, **FULL)


def test_a_fully_trained_model_is_a_plain_transformers_folder(folder: Path, full: Cell) -> None:
    saved = Path(full.artifact) / full.model
    assert sorted(path.name for path in saved.parent.iterdir() if path.is_dir()) == ["model"]
    model = AutoModelForCausalLM.from_pretrained(saved)
    _, (_, _, test) = sides_of(folder)
    loss = example_losses(model, test.examples()).mean()
    assert loss == pytest.approx(full.metrics["test_loss"], abs=1e-6)
    text = "Reverse the word: plum"
    ids = load_tokenizer(ModelConfig())(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(saved)(text)["input_ids"] == ids
    base = load_model(ModelConfig()).state_dict()
    moved = [name for name, w in model.state_dict().items() if not torch.equal(w, base[name])]
    assert len(moved) == len(base)  # every weight was trained


def test_two_workers_with_parts_equal_one_with_the_whole(folder: Path, full: Cell) -> None:
    """To 1e-5, each holding half of every weight, gradient and moment."""
    found = trained(folder, workers=2, shard=True, **FULL)
    assert_equal(found, full, rel=1e-5)
    mine, theirs = (
        AutoModelForCausalLM.from_pretrained(Path(cell.artifact) / "model").state_dict()
        for cell in (found, full)
    )
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5


def test_nothing_is_kept_where_that_is_asked_for(folder: Path) -> None:
    cell = trained(folder, workers=0, save=False)
    assert cell.model is None
    assert not [path for path in Path(cell.artifact).iterdir() if path.is_dir()]


def kill_a_worker(
    folder: Path, killed: list[int], seen: list[set[int]], stop: threading.Event
) -> None:
    """SIGKILL the training process once an epoch lies behind it; note the epochs seen since then."""
    before = set(folder.glob("artifacts/cell-*"))
    while not stop.wait(0.02):
        for cell in set(folder.glob("artifacts/cell-*")) - before:
            epochs = {int(path.name[6:]) for path in cell.glob("checkpoints/epoch-*")}
            if epochs and not killed:
                for process in psutil.Process().children(recursive=True):
                    if "RayTrainWorker" in "".join(process.cmdline()):
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
            if epochs:
                seen.append(epochs)


def test_a_killed_worker_continues_and_ends_in_the_same_numbers(folder: Path) -> None:
    """To the last bit. Forty epochs, killed after the first, continued from a later one than none."""
    truth = trained(folder, epochs=40, workers=0)
    killed: list[int] = []
    seen: list[set[int]] = []
    stop = threading.Event()
    watch = (folder, killed, seen, stop)
    killer = threading.Thread(target=kill_a_worker, args=watch, daemon=True)
    killer.start()
    try:
        found = trained(folder, epochs=40, workers=1)
    finally:
        stop.set()
        killer.join()
    assert killed
    assert max(seen[0]) < 40, "the worker was not killed in the middle"
    assert all(max(epochs) >= max(seen[0]) for epochs in seen)
    assert train_losses(found) == train_losses(truth)
    assert found.metrics == truth.metrics
